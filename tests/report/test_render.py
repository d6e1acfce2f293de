import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from zoo.report import render

VOID = {"meta", "br", "img", "link", "input", "hr"}
SECTIONS = ("weights", "recipe", "classes", "counts", "findings", "skipped", "history", "best", "results", "freeze",
            "numerics", "artifact", "commands", "versions", "seconds", "architecture", "name")  # fmt: skip


class Page(HTMLParser):
    """Checks that every element is closed in order, and keeps what a test wants to look at."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(confusion: list[list[int]], classes: list[str]) -> dict[str, Any]:
    total = sum(map(sum, confusion))
    rows = [
        {"class": name, "precision": 0.8, "recall": 0.7, "f1": 0.75, "support": sum(row)}
        for name, row in zip(classes, confusion, strict=True)
    ]
    right = sum(row[index] for index, row in enumerate(confusion))
    return {
        "loss": 0.25,
        "accuracy": right / total,
        "precision": 0.8,
        "recall": 0.7,
        "f1": 0.75,
        "per_class": rows,
        "confusion": confusion,
    }


def example(classes: list[str], confusion: list[list[int]] | None = None) -> dict[str, Any]:
    count = len(classes)
    if confusion is None:
        confusion = [[100 + true if true == at else (7 if at == (true + 1) % count else 0) for at in range(count)]
                     for true in range(count)]  # fmt: skip
    history = [
        {"phase": 1 + epoch // 3, "epoch": epoch + 1, "step": 9 * epoch, "lr": 1e-3, "train_loss": 2.0 / (epoch + 1),
         "train_accuracy": 0.5 + epoch / 20, "val_loss": 2.1 / (epoch + 1), "val_accuracy": 0.5 + epoch / 25,
         "seconds": 1.5}
        for epoch in range(6)
    ]  # fmt: skip
    return {
        "name": "digits-1",
        "architecture": "resnet/resnet18",
        "weights": {"kind": "tag", "spec": "IMAGENET1K_V1", "licence": "BSD-3-Clause"},
        "recipe": {
            "name": "lp-ft",
            "phases": [{"epochs": 3, "train": "head", "lr": 1e-3}, {"epochs": 3, "train": "all", "lr": 3e-5}],
        },
        "classes": classes,
        "counts": {split: dict.fromkeys(classes, 20) for split in ("train", "val", "test")},
        "findings": [{"level": "warning", "text": "one duplicate"}],
        "skipped": [{"path": "a/b.jpg", "reason": "empty file"}],
        "history": history,
        "best": {"phase": 2, "epoch": 5},
        "results": {"val": report(confusion, classes), "test": report(confusion, classes)},
        "freeze": [
            {
                "phase": 1,
                "train": "head",
                "frozen_stages": 9,
                "frozen_tensors": 120,
                "before": "ab" * 32,
                "after": "ab" * 32,
            },
            {"phase": 2, "train": "all", "frozen_stages": 0, "frozen_tensors": 0, "before": "", "after": ""},
        ],
        "numerics": {
            "precision": "float32",
            "channels_last": True,
            "batch_size": 32,
            "threads": 2,
            "reasons": {"precision": "no hardware for less"},
        },
        "artifact": {
            "file": "model.safetensors",
            "bytes": 1_234_567,
            "sha256": "cd" * 32,
            "verified": {"max_difference": 0.0},
        },
        "commands": [
            ("Train it again", "zoo finetune digits --seed 0"),
            ("Predict", "zoo predict m.safetensors a.jpg"),
        ],
        "versions": {"torch": "2.14"},
        "seconds": {"total": 65.0},
    }


def drawings(page: str) -> Iterator[ElementTree.Element]:
    for text in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        yield ElementTree.fromstring(text)


@pytest.mark.parametrize("count", [1, 2, 10, 40, 41])
def test_every_page_is_well_formed_html_with_well_formed_drawings(count: int) -> None:
    page = render(example([f"class {index}" for index in range(count)]))
    Page(page)
    drawn = list(drawings(page))
    assert len(drawn) == (3 if count <= 40 else 2)
    for drawing in drawn:
        assert drawing.get("role") == "img"
        names = [drawing.find("title"), drawing.find("desc")]
        assert [name.get("id") for name in names if name is not None] == drawing.get("aria-labelledby", "").split()
        assert all(name is not None and name.text for name in names)


def test_the_page_asks_for_nothing_outside_itself() -> None:
    page = render(example(["cat", "dog"]))
    assert "http" not in page.lower()
    assert "url(" not in page
    assert "@import" not in page
    for tag, attributes in Page(page).tags:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "xlink:href", "srcset", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)


def test_hostile_names_stay_text() -> None:
    hostile = [
        "<script>alert(1)</script>",
        "\x1b[31mred\x1b[0m",
        "a\" onload='x",
        "\u202egnp.exe",
        "\udcff",
        "]]>&amp;\n",
    ]
    run = example(hostile)
    run["name"] = "</title><script>alert(2)</script>"
    run["findings"] = [{"level": 'error"><script>', "text": "<b>bold</b>"}]
    run["commands"] = [("<i>", "zoo predict '<script>'")]
    text = render(run)
    page = Page(text)
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert all(attributes.keys() == {"style"} for tag, attributes in page.tags if tag == "i")
    assert "<script>alert(1)</script>" in page.text
    assert r"\x1b[31mred\x1b[0m" in page.text
    assert r"\u202egnp.exe" in page.text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    text.encode()
    assert len(list(drawings(text))) == 3


@pytest.mark.parametrize("absent", SECTIONS)
@pytest.mark.parametrize("how", ["missing", "none", "empty"])
def test_any_section_may_be_absent(absent: str, how: str) -> None:
    run = example(["cat", "dog", "cow"])
    if how == "missing":
        del run[absent]
    else:
        run[absent] = None if how == "none" else type(run[absent])()
    page = Page(render(run))
    assert "None" not in page.text
    assert "Undefined" not in page.text


def test_a_run_of_which_nothing_is_known_is_still_a_page() -> None:
    assert Page(render({})).text.startswith("Training report")


def test_a_run_without_validation_or_finite_losses_is_drawn() -> None:
    run = example(["cat", "dog"])
    for row in run["history"]:
        row.update(val_loss=None, val_accuracy=None)
    run["history"][2]["train_loss"] = float("nan")
    run["history"][3]["train_loss"] = float("inf")
    run["results"] = {"val": None, "test": run["results"]["test"]}
    page = render(run)
    Page(page)
    assert not re.search(r"\b(nan|inf)\b", page)
    loss = next(drawings(page))
    assert [len(line.get("points", "").split()) for line in loss.iter("polyline")] == [2, 2]


def test_the_headline_says_how_many_were_wrong_and_how_sure_that_is() -> None:
    text = Page(render(example(["cat", "dog"], [[45, 5], [2, 48]]))).text
    assert "93.0 % test accuracy" in text
    assert "Of 100 test images, 93 were labelled correctly and 7 wrongly" in text
    # Wilson's interval for 93 of 100, as statsmodels' proportion_confint(93, 100, method="wilson") gives it.
    assert "between 86.3 % and 96.6 %" in text
    assert "most common class would reach 50.0 %" in text


def test_without_a_test_split_the_page_says_that_validation_flatters() -> None:
    run = example(["cat", "dog"])
    del run["results"]["test"]
    text = Page(render(run)).text
    assert "validation accuracy" in text
    assert "no test split" in text


def test_the_matrix_shows_every_count_in_its_place() -> None:
    confusion = [[11, 2, 0], [0, 13, 4], [5, 0, 17]]
    page = render(example(["cat", "dog", "cow"], confusion))
    heat_map = list(drawings(page))[2]
    places = {
        (float(rect.get("y", "")), float(rect.get("x", ""))): int(text.text or "")
        for group in heat_map.iter("g")
        if (rect := group.find("rect")) is not None and (text := group.find("text")) is not None
    }
    ys = sorted({y for y, _ in places})
    xs = sorted({x for _, x in places})
    assert [[places.get((y, x), 0) for x in xs] for y in ys] == confusion
    tooltips = {title.text for group in heat_map.iter("g") for title in group.iter("title")}
    assert "cow taken for cat: 5 of 22 (22.7 %)" in tooltips
    assert "dog recognised: 13 of 17 (76.5 %)" in tooltips


def test_the_most_confused_classes_come_first() -> None:
    text = Page(render(example(["cat", "dog", "cow"], [[11, 2, 0], [0, 13, 4], [5, 0, 17]]))).text
    assert re.search(r"cow cat 5 of 22 .*dog cow 4 of 17 .*cat dog 2 of 13", text)


def test_the_weakest_class_comes_first_and_classes_without_images_last() -> None:
    run = example(["cat", "dog", "cow"])
    rows = run["results"]["test"]["per_class"]
    rows[0].update(support=0, f1=0.0)
    rows[2].update(f1=0.1)
    text = Page(render(run)).text
    rows_text = text[text.index("Every class") : text.index("The images")]
    assert rows_text.index("cow") < rows_text.index("dog") < rows_text.index("cat")


def test_phases_and_the_kept_epoch_are_marked_on_the_curves() -> None:
    page = render(example(["cat", "dog"]))
    loss, accuracy, _ = drawings(page)
    labels = [text.text for text in loss.iter("text")]
    assert {"phase 1: head", "phase 2: all", "kept: 0.420"} <= set(labels)
    assert "kept: 66.0 %" in [text.text for text in accuracy.iter("text")]
    assert len([line for line in loss.iter("line") if line.get("class") == "boundary"]) == 1
    assert "epoch 5 of 6" in Page(page).text


def test_a_changed_frozen_tensor_is_named_as_such() -> None:
    run = example(["cat", "dog"])
    assert "✓ unchanged" in Page(render(run)).text
    run["freeze"][0]["after"] = "ff" * 32
    text = Page(render(run)).text
    assert "✗ changed" in text
    assert "unchanged" not in text


def test_how_to_run_it_again_is_on_the_page() -> None:
    text = Page(render(example(["cat", "dog"]))).text
    for words in (
        "zoo finetune digits --seed 0",
        "cd" * 32,
        "1.2 MB",
        "no hardware for less",
        "torch 2.14",
        "1 min 05 s",
    ):
        assert words in text


def test_equal_runs_give_equal_pages() -> None:
    assert render(example(["cat", "dog"])) == render(example(["cat", "dog"]))


def test_rendering_leaves_the_data_as_it_was() -> None:
    run = example(["cat", "dog\x1b"])
    render(run)
    assert run == example(["cat", "dog\x1b"])


def test_every_table_with_a_head_names_its_columns() -> None:
    page = Page(render(example(["cat", "dog"])))
    heads = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert heads
    assert set(heads) == {"col", "row"}

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.architecture import Architecture, Option, OptionValue, Preprocessing, Weights
from zoo.errors import OptionError
from zoo.weights.class_names import class_names

OPTIONS = (
    Option(name="drop", default=0.0, minimum=0, maximum=0.9),
    Option(name="widths", default=(16, 32), minimum=1),
    Option(name="size", default=32, minimum=8, maximum=512),
    Option(name="norm", default=True),
    Option(name="act", default="relu", choices=("relu", "gelu")),
)
NET = Architecture(name="net", family="nets", plugin="lab", options=OPTIONS)


@pytest.mark.parametrize(
    ("size", "crop_pct", "resize"), [(224, 0.875, 256), (224, 1.0, 224), (299, 0.874, 342), (32, 1, 32)]
)
def test_crop_share_gives_the_published_resize(size: int, crop_pct: float, resize: int) -> None:
    assert Preprocessing(input_size=(3, size, size), crop_pct=crop_pct).resize == resize


def test_resize_is_of_the_shorter_edge() -> None:
    assert Preprocessing(input_size=(3, 448, 224), crop_pct=0.875).resize == 256


def test_full_name_says_the_owner() -> None:
    assert NET.full_name == "lab/net"


def test_options_not_given_keep_their_defaults() -> None:
    assert NET.parse_options({}) == {option.name: option.default for option in OPTIONS}
    assert NET.parse_options({"size": "64", "widths": "1,2", "norm": "off", "drop": 0}) == {
        "drop": 0.0,
        "widths": (1, 2),
        "size": 64,
        "norm": False,
        "act": "relu",
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("drop", 1.0, r"drop=1\.0 is outside \[0, 0\.9\]"),
        ("drop", math.nan, "drop=nan is outside"),
        ("drop", True, "of type float"),
        ("size", 7, r"outside \[8, 512\]"),
        ("size", "x", "of type int; its default is 32"),
        ("size", 8.0, "of type int"),
        ("size", True, "of type int"),
        ("widths", "1,x", "comma-separated whole numbers"),
        ("widths", (), "comma-separated whole numbers"),
        ("widths", (4, 0), "outside"),
        ("norm", "perhaps", "of type bool"),
        ("act", "tanh", "not one of relu, gelu"),
        ("act", 3, "of type str"),
        ("dropp", 0, r"no option 'dropp'; it has drop, .*Did you mean 'drop'"),
    ],
)
def test_options_of_another_type_or_range_are_refused(name: str, value: object, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        NET.parse_options({name: value})


def test_an_architecture_without_options_says_so() -> None:
    with pytest.raises(OptionError, match="it has no options"):
        Architecture(name="net", family="nets").option("drop")


@given(
    st.sampled_from(OPTIONS[:3]).flatmap(
        lambda option: st.tuples(
            st.just(option),
            st.floats() if option.name == "drop" else st.integers(-10, 600),
        )
    )
)
def test_numbers_are_taken_exactly_when_in_range_and_mean_the_same_as_text(case: tuple[Option, float]) -> None:
    option, number = case
    value: OptionValue = (int(number),) if option.name == "widths" else number
    text = str(int(number)) if option.name == "widths" else repr(number)
    low = -math.inf if option.minimum is None else option.minimum
    high = math.inf if option.maximum is None else option.maximum
    if low <= number <= high:
        assert option.parse(value) == option.parse(text) == value
    else:
        for given_value in (value, text):
            with pytest.raises(OptionError):
                option.parse(given_value)


def test_facts_cannot_be_changed() -> None:
    for facts in (NET, OPTIONS[0], Preprocessing(), Weights(tag="a")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            facts.name = "other"  # type: ignore[misc, union-attr]


def test_imagenet_names_are_torchvisions_and_differ() -> None:
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    names = class_names("imagenet1k")
    assert len(set(names)) == 1000
    # Where an older torchvision repeats a name, ours differ.
    repeated = {name for name in _IMAGENET_CATEGORIES if _IMAGENET_CATEGORIES.count(name) > 1}
    assert all(ours == theirs or theirs in repeated for ours, theirs in zip(names, _IMAGENET_CATEGORIES, strict=True))


def test_an_unknown_list_of_classes_is_empty() -> None:
    assert class_names("../imagenet1k") == class_names("") == ()

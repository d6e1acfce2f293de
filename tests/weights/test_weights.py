"""Weights from a user's words to a model: what is read, what is refused, and what loading changes."""

import argparse
import hashlib
import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.architecture import Architecture, Preprocessing, Weights
from zoo.artifact import Header, Parent, Plugin, write_artifact
from zoo.chain import Chain, Stage
from zoo.errors import ArtifactError, DownloadError, UnknownWeightsError, WeightsError
from zoo.plugins.catalogue import open_plugins
from zoo.progress import Silent
from zoo.weights import LoadReport, build, read_state, resolve_weights
from zoo.weights.licences import forbids_commercial_use

TINY = Architecture(
    name="tiny",
    family="tiny",
    plugin="test",
    weights=(
        Weights(tag="IN1K_v1", url="https://127.0.0.1:1/tiny-01234567.pth", sha256_prefix="01234567"),
        Weights(tag="local_only"),
    ),
    default_weights="IN1K_v1",
)


class Tiny(nn.Module):
    """A convolution with BatchNorm, an auxiliary head, and a head with a hidden layer."""

    def __init__(self, num_classes: int, in_channels: int, *, hidden: int = 6, auxiliary: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.register_buffer("scale", torch.linspace(1, 2, 4), persistent=False)
        self.auxiliary = nn.Linear(4, num_classes) if auxiliary else None
        self.head = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.norm(self.conv(x))) * self.scale)


class Scale(nn.Module):
    """The pooling of Tiny, as the last stage of its backbone."""

    def __init__(self, model: Tiny) -> None:
        super().__init__()
        self.pool = model.pool
        self.register_buffer("scale", model.scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) * self.scale


class Hooks:
    """The calls of zoo.plugins.hooks.PluginHooks, made directly."""

    def build_model(
        self, architecture: Architecture, *, num_classes: int, in_channels: int, options: Mapping[str, Any]
    ) -> nn.Module:
        return Tiny(num_classes, in_channels, **options)

    def stages(self, architecture: Architecture, model: Tiny) -> Sequence[Stage]:
        return [
            Stage("conv", nn.Sequential(model.conv, model.norm)),
            Stage("pool", Scale(model), model.auxiliary, 0.3),
            Stage("head", model.head),
        ]

    def chain(self, architecture: Architecture, model: Any) -> Chain:
        return Chain(model, self.stages(architecture, model), head_parameters=architecture.head_parameters)

    def import_state(
        self, architecture: Architecture, model: nn.Module, state: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        return {name.replace("fc.", "head."): tensor for name, tensor in state.items()}


def make(
    state: Mapping[str, Tensor] | None = None,
    *,
    num_classes: int = 3,
    in_channels: int = 3,
    hooks: Any = None,
    architecture: Architecture = TINY,
    seed: int = 0,
    classes: Sequence[str] = (),
    state_classes: Sequence[str] = (),
    **options: Any,
) -> tuple[Any, LoadReport]:
    return build(
        hooks or Hooks(),
        architecture,
        num_classes=num_classes,
        in_channels=in_channels,
        options=options,
        state=state,
        seed=seed,
        classes=classes,
        state_classes=state_classes,
    )


def trained(**arguments: Any) -> dict[str, Tensor]:
    """A state that differs from every initial one, BatchNorm's included."""
    state = {name: tensor.clone() for name, tensor in make(seed=99, **arguments)[0].state_dict().items()}
    return {n: t + 0.5 if t.is_floating_point() else t + 7 for n, t in state.items()}


def equal_but_for(model: nn.Module, state: Mapping[str, Tensor], *names: str) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and {n for n in own if not torch.equal(own[n], state[n])} == set(names)


# Building


def test_random_values_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, report = make(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert equal_but_for(make(seed=5)[0], first.state_dict())
    assert not equal_but_for(make(seed=6)[0], first.state_dict())
    assert report.loaded == 0
    assert "conv.weight" in report.initialised


def test_a_fitting_state_gives_equal_logits_and_touches_no_random_state() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    state = trained()
    reference = Tiny(3, 3)
    torch.set_rng_state(before)
    reference.load_state_dict(state)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model, report = make(dict(state))
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert torch.equal(model(x), reference.eval()(x))
    assert report == LoadReport(loaded=len(state))
    assert torch.equal(model.scale, torch.linspace(1, 2, 4))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_state_is_assigned_without_a_copy() -> None:
    state = trained()
    model, _ = make(state)
    assert model.conv.weight.data_ptr() == state["conv.weight"].data_ptr()


def test_published_names_go_through_the_plugin() -> None:
    state = trained()
    published = {name.replace("head.", "fc."): tensor for name, tensor in state.items()}
    assert equal_but_for(make(published)[0], state)


def test_a_head_for_other_classes_is_initialised_and_its_hidden_layer_kept() -> None:
    state = trained(num_classes=5)
    model, report = make(dict(state), num_classes=3)
    replaced = ("head.2.weight", "head.2.bias", "auxiliary.weight", "auxiliary.bias")
    assert equal_but_for(model, state | {name: torch.zeros(0) for name in replaced}, *replaced)
    assert set(report.initialised) == set(report.dropped) == set(replaced)
    assert report.loaded == len(state) - 4
    again, _ = make(dict(state), num_classes=3)
    assert equal_but_for(again, model.state_dict())
    other, _ = make(dict(state), num_classes=3, seed=1)
    assert not torch.equal(other.head[2].weight, model.head[2].weight)
    assert model.head[2].weight.abs().max() < 1


def test_classes_of_equal_names_keep_their_rows() -> None:
    state = trained(num_classes=4)
    names = ["ant", "bee", "cat", "dog"]
    model, report = make(dict(state), num_classes=3, classes=["dog", "eel", "ant"], state_classes=names)
    for name in ("head.2.weight", "head.2.bias", "auxiliary.weight", "auxiliary.bias"):
        own = model.state_dict()[name]
        assert torch.equal(own[0], state[name][3])
        assert torch.equal(own[2], state[name][0])
        assert not any(torch.equal(own[1], row) for row in state[name])
    assert report.carried_classes == 2
    assert report.dropped == ()
    assert set(report.adapted) == set(report.initialised)


def test_reordered_classes_are_matched_by_name_with_nothing_initialised() -> None:
    state = trained()
    model, report = make(dict(state), classes=["c", "a", "b"], state_classes=["a", "b", "c"])
    assert torch.equal(model.head[2].weight, state["head.2.weight"][[2, 0, 1]])
    assert report.initialised == ()
    assert report.carried_classes == 3


def test_as_many_classes_of_other_names_get_a_new_head() -> None:
    state = trained()
    model, report = make(dict(state), classes=["x", "y", "z"], state_classes=["a", "b", "c"])
    assert not torch.equal(model.head[2].weight, state["head.2.weight"])
    assert "head.2.weight" in report.dropped
    assert "head.0.weight" not in report.initialised


def test_a_hidden_layer_as_wide_as_the_classes_is_not_taken_for_one() -> None:
    state = trained(num_classes=6)
    model, report = make(dict(state), num_classes=6, classes=[*"abcdef"], state_classes=[*"ABCDEF"])
    assert torch.equal(model.head[0].weight, state["head.0.weight"])
    assert set(report.initialised) == {"head.2.weight", "head.2.bias", "auxiliary.weight", "auxiliary.bias"}


def test_names_that_do_not_match_the_rows_are_not_used() -> None:
    state = trained(num_classes=4)
    model, report = make(dict(state), classes=["a", "b", "c"], state_classes=["a", "b"])
    assert report.carried_classes == 0
    assert "head.2.weight" in report.dropped
    assert model.head[2].out_features == 3


def test_a_head_with_another_hidden_layer_is_initialised_whole() -> None:
    state = trained(hidden=9)
    model, report = make(dict(state), hidden=6)
    assert set(report.initialised) == {"head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"}
    assert torch.equal(model.auxiliary.weight, state["auxiliary.weight"])


def test_a_backbone_without_a_head_can_be_loaded() -> None:
    state = {name: tensor for name, tensor in trained().items() if not name.startswith("head.")}
    _, report = make(dict(state))
    assert set(report.initialised) == {"head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"}


def test_an_auxiliary_head_that_was_not_published_is_initialised() -> None:
    state = trained(auxiliary=False)
    model, report = make(dict(state))
    assert set(report.initialised) == {"auxiliary.weight", "auxiliary.bias"}
    assert torch.equal(model.head[2].weight, state["head.2.weight"])


def test_half_of_a_head_is_refused() -> None:
    state = trained()
    del state["head.2.bias"]
    with pytest.raises(WeightsError, match=r"head\.2\.bias: expected \(3,\) float32, found nothing"):
        make(state)


def test_checkpoints_without_batch_counters_load() -> None:
    state = trained()
    del state["norm.num_batches_tracked"]
    model, report = make(dict(state))
    assert report.initialised == ()
    assert model.norm.num_batches_tracked == 0


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("published", [1, 3, 4])
def test_the_first_convolution_is_adapted_to_the_channels(channels: int, published: int) -> None:
    state = trained(in_channels=published)
    kernel = state["conv.weight"].clone()
    model, report = make(dict(state), in_channels=channels)
    own = model.conv.weight.detach()
    assert report.adapted == (() if channels == published else ("conv.weight",))
    assert report.initialised == ()
    rgb = kernel.repeat(1, 3, 1, 1) / 3 if published == 1 else kernel[:, :3]
    if channels == 1:
        torch.testing.assert_close(own, kernel if published == 1 else rgb.sum(1, keepdim=True))
    else:
        torch.testing.assert_close(own[:, :3], rgb)
    if channels == 4:
        torch.testing.assert_close(own[:, 3], kernel[:, 3] if published == 4 else rgb.mean(1))


def test_a_grey_image_gives_equal_logits_in_one_channel_and_in_three() -> None:
    state = trained()
    x = torch.randn(2, 1, 8, 8)
    grey, _ = make(dict(state), in_channels=1)
    colour, _ = make(dict(state), in_channels=3)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)))
    back, _ = make(dict(grey.state_dict()), in_channels=3)
    torch.testing.assert_close(back(x.expand(-1, 3, -1, -1)), colour(x.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype) -> None:
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in trained().items()}
    model, _ = make(dict(state))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.conv.weight, state["conv.weight"].float())


@pytest.mark.parametrize(
    ("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinite"), (-float("inf"), "infinite")]
)
@pytest.mark.parametrize("name", ["conv.weight", "norm.running_var"])
def test_damaged_values_are_named(name: str, value: float, word: str) -> None:
    state = trained()
    state[name].view(-1)[1] = value
    with pytest.raises(WeightsError, match=f"{name} has {word}"):
        make(state)


def test_every_misfit_is_named_tensor_by_tensor() -> None:
    state = trained()
    state["conv.weight"] = torch.zeros(4, 3, 5, 5)
    state["norm.running_mean"] = torch.zeros(4, dtype=torch.int64)
    state["layer9.weight"] = torch.zeros(1)
    del state["norm.weight"]
    with pytest.raises(WeightsError) as caught:
        make(state)
    message = str(caught.value)
    assert "do not fit test/tiny: 4 tensors disagree, of 12 in the model and 12 in the file." in message
    assert "conv.weight: expected (4, 3, 3, 3) float32, found (4, 3, 5, 5) float32" in message
    assert "norm.weight: expected (4,) float32, found nothing" in message
    assert "norm.running_mean: expected (4,) float32, found (4,) int64" in message
    assert "layer9.weight: not part of the model" in message


def test_many_misfits_are_counted() -> None:
    state = trained() | {f"extra.{i}": torch.zeros(1) for i in range(50)}
    with pytest.raises(WeightsError, match="… and 40 more"):
        make(state)


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(WeightsError, match="found nothing"):
        make({"blocks.0.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match="found nothing"):
        make({})


def test_tensors_that_share_memory_become_parameters_of_their_own() -> None:
    state = trained(num_classes=4, hidden=4)
    state["auxiliary.weight"] = state["head.0.weight"]
    model, _ = make(state, num_classes=4, hidden=4)
    with torch.no_grad():
        model.auxiliary.weight.add_(1)
    assert not torch.equal(model.auxiliary.weight, model.head[0].weight)


def test_tensors_in_other_memory_layouts_are_loaded_by_value() -> None:
    state = trained()
    wanted = {name: tensor.clone() for name, tensor in state.items()}
    state["conv.weight"] = state["conv.weight"].to(memory_format=torch.channels_last)
    state["head.0.weight"] = state["head.0.weight"].T.contiguous().T
    model, _ = make(state)
    assert equal_but_for(model, wanted)
    assert all(parameter.is_contiguous() for parameter in model.parameters())


class TiedHooks(Hooks):
    def build_model(self, architecture: Any, *, num_classes: int, in_channels: int, options: Any) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, num_classes))
        model[2].weight = model[0].weight
        return model

    def stages(self, architecture: Architecture, model: Any) -> Sequence[Stage]:
        return [Stage("features", model[:-1]), Stage("head", model[-1])]


def test_parameters_that_a_model_ties_stay_tied() -> None:
    state = {n: t + 1 for n, t in make(hooks=TiedHooks())[0].state_dict().items()}
    model, _ = make(state, hooks=TiedHooks())
    assert model[0].weight is model[2].weight
    assert torch.equal(model[2].weight, state["2.weight"])


class OneStageHooks(Hooks):
    def stages(self, architecture: Architecture, model: Any) -> Sequence[Stage]:
        return [Stage("head", model)]


@pytest.mark.parametrize("named", [(), ("head.2.weight", "head.2.bias", "auxiliary.weight", "auxiliary.bias")])
def test_a_model_that_is_no_chain_loses_only_its_class_tensors(named: tuple[str, ...]) -> None:
    architecture = Architecture(name="whole", family="tiny", plugin="test", head_parameters=named)
    state = trained(num_classes=5)
    _, report = make(dict(state), hooks=OneStageHooks(), architecture=architecture)
    assert set(report.initialised) == {"head.2.weight", "head.2.bias", "auxiliary.weight", "auxiliary.bias"}
    state["head.0.weight"] = torch.zeros(7, 4)
    with pytest.raises(WeightsError, match=r"head\.0\.weight"):
        make(dict(state), hooks=OneStageHooks(), architecture=architecture)


class CountingHooks(Hooks):
    """Initialises as several libraries do, and counts what was drawn."""

    def build_model(self, architecture: Any, *, num_classes: int, in_channels: int, options: Any) -> nn.Module:
        model = Tiny(num_classes, in_channels, **options)
        nn.init.trunc_normal_(model.conv.weight, std=0.02)
        nn.init.trunc_normal_(model.head[0].weight, mean=5.0, std=0.1, a=4.0, b=6.0)
        nn.init.orthogonal_(model.head[2].weight)
        with torch.no_grad():
            model.norm.weight.uniform_(1, 2)
        model.register_buffer("directions", torch.empty(3).normal_(), persistent=False)
        return model

    def stages(self, architecture: Architecture, model: Any) -> Sequence[Stage]:
        head = nn.Sequential(model.head)
        head.register_buffer("directions", model.directions, persistent=False)
        return [*super().stages(architecture, model)[:-1], Stage("head", head)]


def test_skipping_random_values_keeps_buffers_and_ends_with_the_block() -> None:
    reference, _ = make(hooks=CountingHooks())
    state = trained(num_classes=5)
    model, report = make(dict(state), hooks=CountingHooks())
    assert torch.isfinite(model.directions).all()
    assert model.directions.abs().sum() > 0
    assert "head.2.weight" in report.initialised
    assert torch.equal(make(hooks=CountingHooks())[0].directions, reference.directions)


class FailingHooks(Hooks):
    def build_model(self, *arguments: Any, **keywords: Any) -> nn.Module:
        raise RuntimeError("no")


def test_a_failed_build_leaves_initialisation_and_random_state_as_they_were() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        make({}, hooks=FailingHooks())
    assert torch.equal(torch.get_rng_state(), before)
    assert nn.Linear(3, 3).weight.abs().max() > 0


def test_chains_can_be_made_of_a_loaded_model() -> None:
    model, _ = make(trained(num_classes=5))
    assert len(Chain(model, Hooks().stages(TINY, model))) == 3


# Reading files


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def save_pth(path: Path, content: object, **keywords: Any) -> Path:
    torch.save(content, path, **keywords)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {n: t * 0 for n, t in state.items()}, "state_dict_ema": state},
        lambda state: {"model": {n: t * 0 for n, t in state.items()}, "model_ema": state},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
        lambda state: {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()},
        lambda state: {"model_state_dict": state, "args": argparse.Namespace(lr=0.1, names=["a"])},
        lambda state: {
            "ema_state_dict": {"n_averaged": torch.tensor(3)} | {f"module.{n}": t for n, t in state.items()}
        },
    ],
)
def test_published_checkpoint_layouts_are_unwrapped(tmp_path: Path, wrap: Any, zipped: bool) -> None:
    state = trained()
    path = save_pth(tmp_path / "x.pth", wrap(dict(state)), _use_new_zipfile_serialization=zipped)
    found = read_state(path, allow_pth=True)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) and type(found[name]) is Tensor for name in state)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ""])
def test_pickled_files_need_permission_whatever_they_are_called(tmp_path: Path, suffix: str) -> None:
    path = save_pth(tmp_path / f"x{suffix}", trained())
    with pytest.raises(WeightsError, match=r"can run code.*[Cc]onvert.*--allow-pth"):
        read_state(path)
    assert read_state(path, allow_pth=True)


def test_code_among_a_scripts_arguments_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = save_pth(tmp_path / "x.pth", {"model": trained(), "args": argparse.Namespace(x=Canary(mark))})
    with pytest.raises(WeightsError, match="run code"):
        read_state(path, allow_pth=True)
    assert not mark.exists()


@pytest.mark.parametrize("allow_pth", [False, True])
@pytest.mark.parametrize("kind", ["zip", "legacy", *range(pickle.HIGHEST_PROTOCOL + 1)])
def test_code_in_a_pickled_file_never_runs(tmp_path: Path, kind: str | int, allow_pth: bool) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "x.pth"
    content = {"a": torch.zeros(1), "b": Canary(mark)}
    if isinstance(kind, int):
        path.write_bytes(pickle.dumps({"b": Canary(mark)}, protocol=kind))
    else:
        save_pth(path, content, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(WeightsError, match="run code"):
        resolve_weights(TINY, str(path), allow_pth=allow_pth)
    assert not mark.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(path, weights_only=False) if kind in ("zip", "legacy") else pickle.loads(path.read_bytes())
    assert mark.exists(), "the canary of this test does not sing"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.zeros(2), "type Tensor, not tensors by name"),
        ([torch.zeros(2)], "type list"),
        ({}, "nothing"),
        ({"state_dict": {}}, "nothing"),
        ({"a": 3}, "'a' is a value of type int, not a tensor"),
        ({1: torch.zeros(2)}, "a value of type int for a name"),
        ({"a": torch.zeros(2).to_sparse()}, "without plain values"),
        ({"a\x1b[2J": torch.zeros(2)}, "control characters"),
    ],
)
def test_anything_but_tensors_by_name_is_refused(tmp_path: Path, content: object, words: str) -> None:
    path = save_pth(tmp_path / "x.pth", content)
    with pytest.raises(WeightsError, match=words) as caught:
        read_state(path, allow_pth=True)
    assert str(caught.value).isprintable()


def test_damaged_pickled_files_are_refused(tmp_path: Path) -> None:
    content = save_pth(tmp_path / "x.pth", trained()).read_bytes()
    for length in (3, 50, len(content) // 2, len(content) - 10):
        (tmp_path / "y.pth").write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"y\.pth"):
            read_state(tmp_path / "y.pth", allow_pth=True)
    for text, words in [(b"", "empty"), (b"<html>", "web page"), (b"hello", "damaged")]:
        (tmp_path / "y.pth").write_bytes(text)
        with pytest.raises(WeightsError, match=words):
            read_state(tmp_path / "y.pth", allow_pth=True)


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    state = trained()
    for path in (tmp_path / "x.safetensors", save_pth(tmp_path / "x.pth", state)):
        if path.suffix == ".safetensors":
            save_file(state, path)
        found = read_state(path, allow_pth=True)
        path.write_bytes(bytes(path.stat().st_size))
        assert all(torch.equal(found[name], state[name]) for name in state)


# Licences


@pytest.mark.parametrize(
    ("licence", "forbids"),
    [
        ("cc-by-nc-4.0", True),
        ("CC-BY-NC-SA-4.0", True),
        ("fair-noncommercial-research-license", True),
        ("for non-commercial use", True),
        ("research only", True),
        ("research-use-only", True),
        ("apache-2.0", False),
        ("MIT", False),
        ("BSD-3-Clause", False),
        ("cc-by-4.0", False),
        ("encouraged", False),
        ("", False),
    ],
)
def test_licences_that_forbid_commercial_use_are_known(licence: str, forbids: bool) -> None:
    assert forbids_commercial_use(licence) is forbids


class Listener(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_such_a_licence_is_shown_before_anything_is_fetched() -> None:
    tags = [Weights(tag=tag, url="https://127.0.0.1:1/x.pth", licence=tag) for tag in ("cc-by-nc-4.0", "mit")]
    architecture = Architecture(name="a", family="a", plugin="test", weights=tuple(tags))
    listener = Listener()
    for weights in tags:
        with pytest.raises(DownloadError):
            resolve_weights(architecture, weights.tag, offline=True, progress=listener)
    (warning,) = listener.warnings
    assert "test/a@cc-by-nc-4.0" in warning
    assert "forbids commercial use" in warning


def test_the_licence_of_an_artifacts_parent_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_artifact(path, msgspec.structs.replace(HEADER, parent=Parent(licence="CC-BY-NC-4.0")), trained())
    listener = Listener()
    resolve_weights(TINY, path, progress=listener)
    assert len(listener.warnings) == 1


# What a user wrote


@pytest.mark.parametrize("spec", [None, "none", "random", "None"])
def test_random_values_are_no_state(spec: str | None) -> None:
    source, state = resolve_weights(TINY, spec)
    assert source.kind == "random"
    assert source.sha256 == source.spec == ""
    assert state is None


def test_the_default_of_an_architecture_without_weights_is_random() -> None:
    assert resolve_weights(Architecture(name="a", family="a"), "default")[1] is None


@pytest.mark.parametrize("spec", ["default", "IN1K_v1", "in1k_V1"])
def test_tags_go_to_the_download_in_any_case(spec: str) -> None:
    with pytest.raises(DownloadError, match=r"offline.*tiny-01234567\.pth.*incoming"):
        resolve_weights(TINY, spec, offline=True)


def test_a_tag_without_a_url_asks_for_a_file() -> None:
    with pytest.raises(DownloadError, match="--weights FILE"):
        resolve_weights(TINY, "local_only")


def test_an_unknown_tag_lists_the_known_ones() -> None:
    with pytest.raises(UnknownWeightsError, match=r"no weights 'IN1K_v2'. Did you mean 'IN1K_v1'\?.*local_only"):
        resolve_weights(TINY, "IN1K_v2")


@pytest.mark.parametrize("spec", ["gone.safetensors", "folder/gone", "gone.pth"])
def test_a_missing_file_is_named(spec: str) -> None:
    with pytest.raises(ArtifactError, match=f"no file {spec}"):
        resolve_weights(TINY, spec)


def test_urls_without_protection_need_a_pinned_hash() -> None:
    with pytest.raises(WeightsError, match="use https"):
        resolve_weights(TINY, "http://127.0.0.1:1/x.safetensors")


def test_a_local_file_is_read_and_its_hash_kept(tmp_path: Path) -> None:
    state = trained()
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    source, found = resolve_weights(TINY, path)
    assert (source.kind, source.spec, source.path) == ("file", "mine.safetensors", path)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found is not None
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert resolve_weights(TINY, str(path), sha256=source.sha256.upper())[0] == source
    with pytest.raises(WeightsError, match="is pinned"):
        resolve_weights(TINY, path, sha256="00" * 32)


def test_a_file_without_a_suffix_is_found_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(trained(), tmp_path / "plain")
    monkeypatch.chdir(tmp_path)
    assert resolve_weights(TINY, "plain")[0].kind == "file"


HEADER = Header(
    architecture="test/tiny",
    plugin=Plugin(name="test"),
    classes=["a", "b", "c"],
    preprocessing=Preprocessing(),
    parent=Parent(licence="MIT"),
)


def test_an_artifact_brings_its_classes_and_licence(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    digest = write_artifact(path, HEADER, trained())
    source, state = resolve_weights(TINY, str(path))
    assert (source.kind, source.sha256, source.header) == ("artifact", digest, HEADER)
    assert (source.classes, source.licence) == (("a", "b", "c"), "MIT")
    _, report = make(state, classes=["b", "x"], num_classes=2, state_classes=source.classes)
    assert report.carried_classes == 1


def test_an_artifact_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_artifact(path, msgspec.structs.replace(HEADER, architecture="vgg/vgg16"), trained())
    with pytest.raises(WeightsError, match=r"holds vgg/vgg16, not test/tiny"):
        resolve_weights(TINY, path)


def test_an_artifact_of_a_real_plugin_fills_a_fresh_model_with_equal_logits(tmp_path: Path) -> None:
    plugins = open_plugins()
    architecture = plugins.resolve("simple_cnn/simple_cnn").architecture
    hooks = plugins.hooks("simple_cnn")
    options = architecture.parse_options({})
    keywords: dict[str, Any] = {"num_classes": 3, "in_channels": 3, "options": options, "seed": 0}
    model, _ = build(hooks, architecture, state=None, **keywords)
    header = msgspec.structs.replace(HEADER, architecture=architecture.full_name, options=options)
    write_artifact(tmp_path / "m.safetensors", header, hooks.export_state(architecture, model))
    _, state = resolve_weights(architecture, tmp_path / "m.safetensors")
    again, report = build(hooks, architecture, state=state, **keywords | {"seed": 1})
    x = torch.randn(2, *architecture.preprocessing.input_size)
    assert torch.equal(again(x), model(x))
    assert report == LoadReport(loaded=len(model.state_dict()))


def test_the_real_file_beside_the_checkout_is_read(shared_weights: Path) -> None:
    path = shared_weights / "cifar_resnet20.safetensors"
    reference = load_file(path)
    found = read_state(path)
    assert found.keys() == reference.keys()
    assert all(torch.equal(found[name], reference[name]) for name in reference)

"""The plugin ``timm``: its facts, and small members of the families whose stages are finer."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pluggy
import pytest
import torch
import zoo_timm
from torch import nn
from zoo_timm import catalogue
from zoo_timm.data import CATALOGUE

from zoo.architecture import Architecture, OptionValue, Weights
from zoo.chain import Chain
from zoo.errors import OptionError
from zoo.plugins.facts import check_architectures
from zoo.plugins.hooks import PluginHooks
from zoo.weights import build

HooksOf = Callable[[str], pluggy.HookRelay]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def facts() -> Mapping[str, Architecture]:
    return {architecture.name: architecture for architecture in catalogue.architectures()}


@pytest.fixture
def hooks(hooks_of: HooksOf) -> pluggy.HookRelay:
    return hooks_of("zoo_timm")


class Hooks:
    """The plugin's hooks as the core calls them."""

    def __init__(self, relay: pluggy.HookRelay) -> None:
        self._relay = relay

    def build_model(self, architecture: Architecture, **arguments: object) -> nn.Module:
        return self._relay.zoo_build_model(architecture=architecture, **arguments)

    def stages(self, architecture: Architecture, model: nn.Module) -> object:
        return self._relay.zoo_stages(architecture=architecture, model=model)

    def chain(self, architecture: Architecture, model: nn.Module) -> Chain:
        return Chain(model, self.stages(architecture, model), head_parameters=architecture.head_parameters)  # type: ignore[arg-type]

    def import_state(self, architecture: Architecture, model: nn.Module, state: object) -> object:
        return self._relay.zoo_import_state(architecture=architecture, model=model, state=state)


def built(
    relay: pluggy.HookRelay,
    architecture: Architecture,
    *,
    state: Mapping[str, torch.Tensor] | None = None,
    num_classes: int = 5,
    in_channels: int = 3,
    **options: OptionValue,
) -> nn.Module:
    hooks: PluginHooks = Hooks(relay)  # type: ignore[assignment]
    model, _ = build(
        hooks,
        architecture,
        num_classes=num_classes,
        in_channels=in_channels,
        options=architecture.parse_options(options),
        state=state,
        seed=0,
    )
    return model


def chain_of(relay: pluggy.HookRelay, architecture: Architecture, model: nn.Module) -> Chain:
    return Chain(
        model,
        relay.zoo_stages(architecture=architecture, model=model),
        head_parameters=architecture.head_parameters,
    )


def test_facts_import_neither_timm_nor_torch() -> None:
    code = (
        "import sys, zoo_timm; print(len(zoo_timm.zoo_architectures())); "
        "assert not {'timm', 'torch', 'torchvision'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1300


def test_facts_keep_the_rules(facts: Mapping[str, Architecture]) -> None:
    assert len(check_architectures(list(facts.values()), plugin="timm")) == len(facts)


def differences(architectures: Iterable[Architecture]) -> list[str]:
    """Where weights differ from what the installed timm publishes."""
    import timm

    found = []
    for architecture in architectures:
        for weights in architecture.weights:
            config = timm.get_pretrained_cfg(f"{architecture.name}.{weights.tag}", allow_unregistered=False)
            hub = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
            preprocessing = weights.preprocessing
            assert preprocessing is not None
            same = (
                weights.url == (config.url if weights.sha256_prefix or not config.hf_hub_id else hub)
                and (not weights.sha256_prefix or f"-{weights.sha256_prefix}." in config.url)
                and weights.num_classes == config.num_classes
                and weights.licence == (config.license if config.license not in (None, "unknown") else "")
                and preprocessing.input_size == tuple(config.input_size)
                and preprocessing.mean == tuple(config.mean)
                and preprocessing.std == tuple(config.std)
                and preprocessing.crop_pct == min(1.0, config.crop_pct)
                and preprocessing.interpolation == config.interpolation
            )
            if not same:
                found.append(f"{architecture.name}.{weights.tag}")
    return found


def test_weights_are_those_that_timm_publishes(facts: Mapping[str, Architecture]) -> None:
    import timm

    if catalogue.shipped().timm != timm.__version__:
        pytest.skip("another timm is installed than the catalogue was made from")
    listed = {
        f"{architecture.name}.{weights.tag}" for architecture in facts.values() for weights in architecture.weights
    }
    left_out = catalogue.current().left_out
    published = {name for name in timm.list_pretrained() if name.partition(".")[0] not in left_out}
    assert listed == published
    assert set(facts) | set(left_out) == set(timm.list_models())
    assert all(name.endswith("_enc") for name in left_out)  # encoders without a classifier
    assert differences(facts.values()) == []
    hashes = [bool(weights.sha256_prefix) for architecture in facts.values() for weights in architecture.weights]
    assert (hashes.count(True), hashes.count(False)) == (422, 1387)


@pytest.mark.parametrize("change", [{"url": "https://example.org/resnet18-00000000.pth"}, {"sha256_prefix": "0" * 8}])
def test_a_changed_url_or_hash_is_noticed(facts: Mapping[str, Architecture], change: Mapping[str, str]) -> None:
    resnet18 = facts["resnet18"]
    assert any(weights.sha256_prefix for weights in resnet18.weights)
    changed = tuple(
        replace(weights, **change) if weights.tag == "tv_in1k" else weights  # type: ignore[arg-type]
        for weights in resnet18.weights
    )
    assert differences([replace(resnet18, weights=changed)]) == ["resnet18.tv_in1k"]


def test_a_hub_name_is_an_address_of_a_safetensors_file(facts: Mapping[str, Architecture]) -> None:
    weights = {weights.tag: weights for weights in facts["vit_base_patch16_224"].weights}["mae"]
    assert weights == Weights(
        tag="mae",
        url="https://huggingface.co/timm/vit_base_patch16_224.mae/resolve/main/model.safetensors",
        num_classes=0,
        preprocessing=weights.preprocessing,
        licence="cc-by-nc-4.0",
        source="hf-hub:timm/vit_base_patch16_224.mae",
    )


@pytest.mark.slow
def test_refreshing_for_the_same_timm_gives_the_shipped_catalogue(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if catalogue.shipped().timm != catalogue.installed_timm():
        pytest.skip("another timm is installed than the catalogue was made from")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert zoo_timm.refresh().read_bytes() == CATALOGUE


def test_facts_of_another_timm_say_so_until_they_are_refreshed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(catalogue, "installed_timm", lambda: "99.0")
    before = catalogue.architectures()
    assert all("installed is 99.0: 'zoo plugins refresh'" in architecture.note for architecture in before)
    path = catalogue.refreshed_path("99.0")
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    assert catalogue.architectures() == before
    shipped = catalogue.shipped()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(shipped, timm="99.0")))
    assert not any("zoo plugins refresh" in architecture.note for architecture in catalogue.architectures())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test_resnet", ["stem", "layer1", "layer2", "layer3", "layer4", "head"]),
        ("test_efficientnet", ["stem", *(f"block{i}" for i in range(1, 6)), "pool", "head"]),
        ("mobilenetv3_small_050", ["stem", *(f"block{i}" for i in range(1, 7)), "pool", "head"]),
        ("test_convnext", ["stem", "stage1", "stage2", "stage3", "stage4", "pool", "head"]),
        ("test_vit", ["stem", *(f"block{i}" for i in range(1, 7)), "pool", "head"]),
        ("swin_tiny_patch4_window7_224", ["stem", "layer1", "layer2", "layer3", "layer4", "pool", "head"]),
        ("swinv2_tiny_window8_256", ["stem", "layer1", "layer2", "layer3", "layer4", "pool", "head"]),
        ("test_nfnet", ["features", "head"]),
        ("deit_tiny_distilled_patch16_224", ["features", "head"]),
    ],
)
def test_stages_follow_the_family(
    hooks: pluggy.HookRelay, facts: Mapping[str, Architecture], name: str, expected: list[str]
) -> None:
    with torch.device("meta"):
        model = hooks.zoo_build_model(architecture=facts[name], num_classes=5, in_channels=3, options={})
    assert list(chain_of(hooks, facts[name], model).names) == expected


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "mobilenetv3_small_050"])
def test_dropout_belongs_to_the_head(hooks: pluggy.HookRelay, facts: Mapping[str, Architecture], name: str) -> None:
    model = built(hooks, facts[name], dropout=0.5)
    images = torch.rand(2, 3, 160, 160)
    chain = chain_of(hooks, facts[name], model)
    chain.freeze(chain.cut("head"))
    backbone, head = chain.part(0, -1), chain.part(-1)
    with torch.no_grad():
        features = backbone(images)
        assert isinstance(features, torch.Tensor)
        assert features.ndim == 2
        assert torch.equal(backbone(images), features)
        assert not torch.equal(head(features), head(features))
        assert torch.equal(head.eval()(features), model.eval()(images))


def test_an_architecture_that_is_no_chain_is_one_stage(
    hooks: pluggy.HookRelay, facts: Mapping[str, Architecture]
) -> None:
    whole = replace(facts["test_vit"], head_parameters=("head.weight", "head.bias"))
    chain = chain_of(hooks, whole, built(hooks, whole))
    assert chain.names == ("head",)
    assert chain.cut("head").trained == {"head.weight", "head.bias"}
    with pytest.raises(OptionError, match="no chain of stages"):
        chain.cut("last 1")


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("densenet121", 64)])
def test_torchvision_s_checkpoint_gives_its_logits(
    hooks: pluggy.HookRelay, facts: Mapping[str, Architecture], name: str, size: int
) -> None:
    from torchvision import models

    theirs = models.get_model(name, weights=None, num_classes=5).eval()
    # Published before the names of DenseNet's layers lost their dots.
    state = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for key, tensor in theirs.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    ours = built(hooks, facts[name], state=state if name == "densenet121" else theirs.state_dict())
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_an_open_clip_checkpoint_gives_the_logits_of_its_vision_part(
    hooks: pluggy.HookRelay, facts: Mapping[str, Architecture]
) -> None:
    model = built(hooks, facts["test_vit"])
    state = {f"visual.trunk.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    state["text.token_embedding.weight"] = torch.rand(3, 3)
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(built(hooks, facts["test_vit"], state=state)(images), model(images))


def test_weights_load_at_another_image_size(hooks: pluggy.HookRelay, facts: Mapping[str, Architecture]) -> None:
    model = built(hooks, facts["test_vit"])
    small = built(hooks, facts["test_vit"], state=model.state_dict(), image_size=64)
    with torch.no_grad():
        assert small(torch.rand(2, 3, 64, 64)).shape == (2, 5)
    assert torch.equal(small.get_parameter("blocks.0.mlp.fc1.weight"), model.get_parameter("blocks.0.mlp.fc1.weight"))


@pytest.mark.parametrize(("name", "size"), [("tresnet_m", 64), ("naflexvit_base_patch16_siglip", 32)])
def test_a_model_for_grey_images_sums_over_the_colours(
    hooks: pluggy.HookRelay, facts: Mapping[str, Architecture], name: str, size: int
) -> None:
    model = built(hooks, facts[name])
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    grey = built(hooks, facts[name], state=state, in_channels=1)
    images = torch.rand(1, 1, size, size)
    with torch.no_grad():
        torch.testing.assert_close(grey(images), model(images.expand(-1, 3, -1, -1)))


def test_channels_that_timm_refuses_are_the_user_s_error(
    hooks: pluggy.HookRelay, facts: Mapping[str, Architecture]
) -> None:
    with pytest.raises(OptionError, match="timm cannot build csatv2 with in_channels=1"):
        built(hooks, facts["csatv2"], in_channels=1)


def test_a_native_state_passes_the_import_untouched(hooks: pluggy.HookRelay, facts: Mapping[str, Architecture]) -> None:
    model = built(hooks, facts["test_vit"], num_classes=3)
    state = built(hooks, facts["test_vit"], num_classes=9).state_dict()
    imported = hooks.zoo_import_state(architecture=facts["test_vit"], model=model, state=state)
    assert imported is state


def test_an_image_size_that_timm_refuses_is_the_user_s_error(
    hooks: pluggy.HookRelay, facts: Mapping[str, Architecture]
) -> None:
    with pytest.raises(OptionError, match=r"timm cannot build test_vit with image_size=47: .*patch size"):
        built(hooks, facts["test_vit"], image_size=47)

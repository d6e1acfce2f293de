"""The auxiliary heads and the input transform of GoogLeNet and Inception v3."""

from collections.abc import Callable, Mapping

import pluggy
import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from zoo.chain import Chain

HooksOf = Callable[[str], pluggy.HookRelay]


@pytest.fixture
def hooks(hooks_of: HooksOf) -> pluggy.HookRelay:
    return hooks_of("zoo_inception")


def _model(
    hooks: pluggy.HookRelay, name: str, *, num_classes: int = 5, in_channels: int = 3, **options: object
) -> nn.Module:
    architecture = next(a for a in hooks.zoo_architectures() if a.name == name)
    torch.manual_seed(0)
    model: nn.Module = hooks.zoo_build_model(
        architecture=architecture,
        num_classes=num_classes,
        in_channels=in_channels,
        options=architecture.parse_options(options),
    )
    return model


def _import(hooks: pluggy.HookRelay, model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    imported: Mapping[str, Tensor] = hooks.zoo_import_state(architecture=None, model=model, state=state)
    return imported


def _auxiliaries(hooks: pluggy.HookRelay, model: nn.Module) -> dict[str, float]:
    chain = Chain(model, hooks.zoo_stages(architecture=None, model=model))
    assert all(stage.auxiliary_weight == 0 for stage in chain if stage.auxiliary is None)
    return {stage.name: stage.auxiliary_weight for stage in chain if stage.auxiliary is not None}


def test_auxiliary_heads_sit_on_their_stages_with_their_weights(hooks: pluggy.HookRelay) -> None:
    assert _auxiliaries(hooks, _model(hooks, "googlenet")) == {"inception4a": 0.3, "inception4d": 0.3}
    assert _auxiliaries(hooks, _model(hooks, "inception_v3")) == {"mixed6": 0.4}


def test_auxiliary_heads_are_absent_where_not_wanted(hooks: pluggy.HookRelay) -> None:
    for name in ("googlenet", "inception_v3"):
        model = _model(hooks, name, aux=False)
        assert _auxiliaries(hooks, model) == {}
        assert not [key for key in model.state_dict() if key.startswith(("aux", "Aux"))]


def test_inception_v3_has_no_auxiliary_head_below_the_size_it_needs(hooks: pluggy.HookRelay) -> None:
    assert _auxiliaries(hooks, _model(hooks, "inception_v3", image_size=298)) == {}
    model = _model(hooks, "inception_v3", image_size=299)
    whole = Chain(model, hooks.zoo_stages(architecture=None, model=model)).part()
    with torch.no_grad():
        logits, auxiliary = whole.train()(torch.randn(2, 3, 299, 299))
        assert logits.shape == auxiliary.shape == (2, 5)
        with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
            whole(torch.randn(2, 3, 298, 298))


def test_auxiliary_logits_are_torchvisions(hooks: pluggy.HookRelay) -> None:
    model = _model(hooks, "googlenet", dropout=0.0)
    model.aux1.dropout.p = model.aux2.dropout.p = 0.0
    chain = Chain(model, hooks.zoo_stages(architecture=None, model=model))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.train()(x)
        logits, auxiliary1, auxiliary2 = chain.part().train()(x)
    assert torch.equal(logits, expected.logits)
    assert torch.equal(auxiliary1, expected.aux_logits1)
    assert torch.equal(auxiliary2, expected.aux_logits2)


def test_a_frozen_stage_leaves_its_auxiliary_head_out(hooks: pluggy.HookRelay) -> None:
    model = _model(hooks, "googlenet")
    chain = Chain(model, hooks.zoo_stages(architecture=None, model=model))
    assert chain.part(chain.cut("inception4d").frozen_stages).auxiliary_weights == (0.3,)
    assert chain.part(chain.cut("head").frozen_stages).auxiliary_weights == ()


def test_a_published_state_fits_with_and_without_auxiliary_heads(hooks: pluggy.HookRelay) -> None:
    published = models.googlenet(weights=None, num_classes=5, init_weights=False, aux_logits=True).state_dict()
    bare = {name: tensor for name, tensor in published.items() if not name.startswith("aux")}
    with_heads, without_heads = _model(hooks, "googlenet"), _model(hooks, "googlenet", aux=False)
    assert _import(hooks, with_heads, published).keys() == with_heads.state_dict().keys()
    assert _import(hooks, without_heads, published).keys() == bare.keys() == without_heads.state_dict().keys()
    missing = with_heads.load_state_dict(_import(hooks, with_heads, bare), strict=False).missing_keys
    assert missing
    assert all(name.startswith("aux") for name in missing)


@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_the_input_transform_turns_imagenets_normalisation_into_halves(
    hooks: pluggy.HookRelay, in_channels: int
) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    if in_channels == 1:
        mean, std = mean.mean()[None], std.mean()[None]
    elif in_channels == 4:
        mean, std = torch.cat([mean, mean.mean()[None]]), torch.cat([std, std.mean()[None]])
    model = _model(hooks, "googlenet", in_channels=in_channels)
    transform = hooks.zoo_stages(architecture=None, model=model)[0]
    assert transform.name == "transform"
    image = torch.rand(2, in_channels, 3, 5)
    normalised = (image - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(transform.module(normalised), (image - 0.5) / 0.5)

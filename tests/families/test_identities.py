"""What holds for every architecture of the built-in plugins, whatever its family."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pluggy
import pytest
import torch
from torch import nn

from zoo.architecture import Architecture
from zoo.chain import Chain

HooksOf = Callable[[str], pluggy.HookRelay]


@dataclass(frozen=True)
class Case:
    """An architecture, a size to try it at, and the options that differ from the defaults."""

    module: str
    name: str
    size: int = 33
    options: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}[{options}]" if options else self.name


SMALL = (
    Case("zoo_simple_cnn", "simple_cnn", 64),
    Case("zoo_simple_cnn", "simple_cnn", 8, {"image_size": 8}),
    Case("zoo_simple_cnn", "simple_cnn", 29, {"image_size": 29, "batch_norm": True, "activation": "leaky_relu"}),
    Case("zoo_simple_cnn", "simple_cnn", 20, {"image_size": 20, "widths": "5,7", "block_dropout": 0.5, "hidden": 3}),
    Case("zoo_resnet", "resnet18"),
    Case("zoo_inception", "googlenet"),
    Case("zoo_inception", "googlenet", options={"aux": False}),
    Case("zoo_inception", "inception_v3", 75, {"image_size": 75}),
    Case("zoo_efficientnet", "efficientnet_b0"),
)
BIG = (
    *(Case("zoo_resnet", f"resnet{depth}") for depth in (34, 50, 101, 152)),
    *(Case("zoo_resnet", f"resnext{size}") for size in ("50_32x4d", "101_32x8d", "101_64x4d")),
    *(Case("zoo_resnet", f"wide_resnet{depth}_2") for depth in (50, 101)),
    *(Case("zoo_vgg", f"vgg{depth}{norm}") for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    Case("zoo_inception", "inception_v3", 299),
    Case("zoo_inception", "inception_v3", 80, {"aux": False}),
    *(Case("zoo_efficientnet", f"efficientnet_b{size}") for size in range(1, 8)),
    *(Case("zoo_efficientnet", f"efficientnet_v2_{size}") for size in "sml"),
)
CASES = [
    *(pytest.param(case, id=str(case)) for case in SMALL),
    *(pytest.param(case, id=str(case), marks=pytest.mark.slow) for case in BIG),
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Each architecture in turn, random values fixed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield request.param
    torch.set_num_threads(threads)


def _architecture(hooks: pluggy.HookRelay, name: str) -> Architecture:
    return next(architecture for architecture in hooks.zoo_architectures() if architecture.name == name)


def _build(
    hooks: pluggy.HookRelay, case: Case, *, num_classes: int = 7, in_channels: int = 3
) -> tuple[Architecture, nn.Module]:
    architecture = _architecture(hooks, case.name)
    model = hooks.zoo_build_model(
        architecture=architecture,
        num_classes=num_classes,
        in_channels=in_channels,
        options=architecture.parse_options(case.options),
    )
    return architecture, model


def _chain(hooks: pluggy.HookRelay, architecture: Architecture, model: nn.Module) -> Chain:
    return Chain(model, hooks.zoo_stages(architecture=architecture, model=model))


def _use_batch_norm_statistics(model: nn.Module) -> None:
    """Move the statistics away from 0 and 1, where a forgotten layer would go unseen."""
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(layer.running_mean, std=0.05)
            nn.init.uniform_(layer.running_var, 0.9, 1.1)


def test_stages_in_order_equal_the_model_and_own_every_tensor_once(case: Case, hooks_of: HooksOf) -> None:
    hooks = hooks_of(case.module)
    architecture, model = _build(hooks, case)
    _use_batch_norm_statistics(model)
    model.eval()
    state = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 3, case.size, case.size)
    with torch.no_grad():
        chain = _chain(hooks, architecture, model)
        expected = model(x)
        assert torch.equal(chain.part()(x), expected)
        assert expected.std() > 0, "a constant output would make the comparison empty"
        for stop in range(1, len(chain)):
            features = chain.part(0, stop)(x)
            before = features.clone()
            assert torch.equal(chain.part(stop)(features), expected)
            chain.part(stop).train()(features)
            assert torch.equal(features, before), f"the stage after {chain.names[stop - 1]} overwrites its input"
            model.load_state_dict(state)
            model.eval()


def test_a_frozen_backbone_gives_vectors(case: Case, hooks_of: HooksOf) -> None:
    hooks = hooks_of(case.module)
    architecture, model = _build(hooks, case)
    backbone = _chain(hooks, architecture, model.eval()).part(0, -1)
    with torch.no_grad():
        assert backbone(torch.randn(2, 3, case.size, case.size)).ndim == 2


def test_a_copy_has_a_chain_of_its_own(case: Case, hooks_of: HooksOf) -> None:
    hooks = hooks_of(case.module)
    architecture, model = _build(hooks, case)
    twin = copy.deepcopy(model.eval())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        x = torch.randn(1, 3, case.size, case.size)
        assert torch.equal(_chain(hooks, architecture, twin).part()(x), twin(x))
        assert not torch.equal(twin(x), model(x))


def test_any_number_of_classes_and_channels_builds(case: Case, hooks_of: HooksOf) -> None:
    hooks = hooks_of(case.module)
    for num_classes, in_channels in ((1, 3), (2, 1), (7, 4)):
        architecture, model = _build(hooks, case, num_classes=num_classes, in_channels=in_channels)
        chain = _chain(hooks, architecture, model.eval())
        x = torch.randn(1, in_channels, case.size, case.size)
        with torch.no_grad():
            logits = model(x)
            assert logits.shape == (1, num_classes)
            assert torch.equal(chain.part()(x), logits)


def test_a_training_step_reaches_every_parameter(case: Case, hooks_of: HooksOf) -> None:
    hooks = hooks_of(case.module)
    architecture, model = _build(hooks, case)
    chain = _chain(hooks, architecture, model)
    chain.freeze(chain.cut("all"))
    whole = chain.part().train()
    outputs = whole(torch.randn(2, 3, case.size, case.size))
    logits = outputs if isinstance(outputs, tuple) else (outputs,)
    assert len(logits) == 1 + len(whole.auxiliary_weights)
    assert all(output.shape == (2, 7) for output in logits)
    sum(output.square().sum() for output in logits).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_smallest_sizes_of_the_facts_work(case: Case, hooks_of: HooksOf) -> None:
    hooks = hooks_of(case.module)
    architecture = _architecture(hooks, case.name)
    smallest, smallest_training = architecture.smallest_input, architecture.smallest_training_input
    for size, training in ((smallest, False), (smallest_training, True)):
        options = dict(case.options)
        if any(option.name == "image_size" for option in architecture.options):
            options["image_size"] = size
        _, model = _build(hooks, Case(case.module, case.name, options=options))
        whole = _chain(hooks, architecture, model).part()
        whole.train(training)
        with torch.no_grad():
            outputs = whole(torch.randn(2, 3, size, size))
        for logits in outputs if isinstance(outputs, tuple) else (outputs,):
            assert logits.isfinite().all()


def test_an_equal_seed_builds_equal_values(case: Case, hooks_of: HooksOf) -> None:
    hooks = hooks_of(case.module)
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(_build(hooks, case, in_channels=4)[1].state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

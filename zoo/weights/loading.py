"""Building a model and filling it with tensors, without drawing random values that nobody keeps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.chain import Chain
from zoo.weights.fitting import Fitting, LoadReport, differ_by_name

if TYPE_CHECKING:
    from zoo.architecture import Architecture, OptionValue
    from zoo.plugins.hooks import PluginHooks

_INITIALISERS = frozenset(
    {
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.xavier_uniform_,
        nn.init.xavier_normal_,
        nn.init.kaiming_uniform_,
        nn.init.kaiming_normal_,
    }
)
_RANDOM = _INITIALISERS | {Tensor.normal_, Tensor.uniform_, Tensor.erfinv_}
# Those of them that torch runs in spite of a mode end in one draw that need not happen.
_DRAWING_ONCE = frozenset(
    initialiser.__code__ for initialiser in (*_INITIALISERS, nn.init._no_grad_normal_, nn.init._no_grad_uniform_)
)


def build(
    hooks: PluginHooks,
    architecture: Architecture,
    *,
    num_classes: int,
    in_channels: int,
    options: Mapping[str, OptionValue],
    state: Mapping[str, Tensor] | None,
    seed: int,
    classes: Sequence[str] = (),
    state_classes: Sequence[str] = (),
    check_values: bool = True,
) -> tuple[nn.Module, LoadReport]:
    """Build an architecture and load tensors into it.

    A head for other classes is replaced: rows of classes that both lists name are kept, the others are initialised.
    A head whose hidden layers have other shapes, or that the file does not have, is initialised; so is an auxiliary
    head. A first convolution is adapted to ``in_channels``: 3 → 1 sums over RGB, 1 → 3 repeats a third of the kernel,
    3 → 4 gives the fourth channel the mean of RGB, 4 → 3 drops the fourth. Initial values depend on ``seed`` alone.

    Args:
        hooks: The plugin that builds it.
        architecture: What to build.
        num_classes: Outputs of the head, at least 1.
        in_channels: Channels of the input: 1, 3 or 4.
        options: Every option with its checked value.
        state: Tensors in the published layout, which may become the model's own: do not use them afterwards. None
            gives random values.
        seed: For values that ``state`` does not give.
        classes: Names of the model's outputs; empty when unknown.
        state_classes: Names of the classes that ``state`` was trained on; empty when unknown.
        check_values: Refuse values that are not finite; False where that was done when they entered the cache.

    Returns:
        A float32 model on the CPU in eval mode, and what loading did.

    Raises:
        WeightsError: Tensors are missing, left over, of other shapes or not finite; each is named.
        HookError: The plugin failed.
    """

    def make(count: int, initialised_shapes: Collection[torch.Size] | None) -> nn.Module:
        selective = nullcontext() if initialised_shapes is None else _SelectiveInit(initialised_shapes)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            with selective:
                return hooks.build_model(
                    architecture, num_classes=count, in_channels=in_channels, options=options
                ).eval()

    if state is None:
        model = make(num_classes, None)
        return model, LoadReport(initialised=tuple(name for name, _ in model.named_parameters()))
    model = make(num_classes, ())
    fitting = Fitting(model, hooks.import_state(architecture, model, state))
    fitting.adapt_channels(in_channels)
    if fitting.misfits() or differ_by_name(classes, state_classes):
        chain = hooks.chain(architecture, model)
        class_axes = _class_axes(fitting.expected, make(num_classes + 1, ()).state_dict())
        for part in _replaceable_parts(chain, architecture.head_parameters, class_axes):
            fitting.fit_head(part, class_axes, classes, state_classes)
    fitting.refuse_misfits(architecture.full_name)
    final = fitting.tensors(lambda shapes: make(num_classes, shapes).state_dict(), check_values=check_values)
    if not _assign(model, final):
        model.load_state_dict(final)
    return model, fitting.report()


def count_classes(
    hooks: PluginHooks,
    architecture: Architecture,
    *,
    in_channels: int,
    options: Mapping[str, OptionValue],
    state: Mapping[str, Tensor],
) -> int:
    """How many classes the tensors of a checkpoint were trained on, read off the rows of its heads.

    Args:
        hooks: The plugin that builds the architecture.
        architecture: What the tensors are for.
        in_channels: Channels of the input: 1, 3 or 4.
        options: Every option with its checked value.
        state: Tensors in the published layout.

    Returns:
        0 where there is no head among them, or its tensors do not agree.
    """
    with torch.random.fork_rng(devices=[]), _SelectiveInit(()):
        one, two = (
            hooks.build_model(architecture, num_classes=count, in_channels=in_channels, options=options)
            for count in (1, 2)
        )
    class_axes = _class_axes(one.state_dict(), two.state_dict())
    found = hooks.import_state(architecture, one, state)
    rows = {found[name].shape[axis] for name, axis in class_axes.items() if name in found and found[name].ndim > axis}
    return rows.pop() if len(rows) == 1 else 0


def _assign(model: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Make tensors the model's own, without a copy and without the half of the time that ``load_state_dict`` takes.

    Returns:
        False, with nothing changed, for a model that this does not suit: one that shares parameters between layers,
        which assignment would untie, whose ``state_dict`` has other names than its parameters and buffers, or with code
        of its own for loading.
    """
    places: list[tuple[dict[str, Any], str, str, Tensor]] = []
    for prefix, module in model.named_modules(remove_duplicate=False):
        if not _loads_plainly(module):
            return False
        prefix += "." if prefix else ""
        buffers = {n: b for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set}
        for table, own in ((module._parameters, module._parameters), (module._buffers, buffers)):
            places += [(table, name, prefix + name, tensor) for name, tensor in own.items() if tensor is not None]
    plain = all(type(tensor) in (Tensor, nn.Parameter) for *_, tensor in places)
    names = {name for _, _, name, _ in places}
    if not plain or names != tensors.keys() or len({id(tensor) for *_, tensor in places}) != len(places):
        return False
    for table, name, full_name, old in places:
        tensor = tensors[full_name]
        table[name] = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    return True


def _loads_plainly(module: nn.Module) -> bool:
    kind = type(module)
    own = kind._load_from_state_dict.__module__
    return (
        (own == "torch.nn" or own.startswith("torch.nn."))
        and kind.load_state_dict is nn.Module.load_state_dict
        and not module._load_state_dict_pre_hooks
        and not module._load_state_dict_post_hooks
    )


class _SelectiveInit(TorchFunctionMode):
    """Leaves out the random initialisation of parameters, except of those with the given shapes.

    Buffers, and everything that is not random, get their values: not every model stores its buffers. A mode reaches
    this thread only and ends with its block, unlike a patch of ``torch.nn.init``.
    """

    def __init__(self, shapes: Collection[torch.Size]) -> None:
        super().__init__()
        self._shapes = frozenset(shapes)

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in _RANDOM:  # almost always: attributes are read through here too
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        if not isinstance(tensor, nn.Parameter) or tensor.shape in self._shapes:
            return func(*args, **kwargs)
        if func is Tensor.normal_ or func is Tensor.uniform_:
            # trunc_normal_ draws again until all values are within its bounds, so they may not be anything.
            return tensor if sys._getframe(1).f_code in _DRAWING_ONCE else tensor.zero_()
        return tensor


def _class_axes(tensors: Mapping[str, Any], with_one_class_more: Mapping[str, Any]) -> dict[str, int]:
    """For each tensor with one row a class, the axis of the rows: where a model for one class more is longer by one."""
    axes = {}
    for name, tensor in tensors.items():
        other = with_one_class_more.get(name)
        if isinstance(other, Tensor) and isinstance(tensor, Tensor) and other.ndim == tensor.ndim:
            longer = [axis for axis in range(tensor.ndim) if other.shape[axis] != tensor.shape[axis]]
            if len(longer) == 1 and other.shape[longer[0]] == tensor.shape[longer[0]] + 1:
                axes[name] = longer[0]
    return axes


def _replaceable_parts(
    chain: Chain, head_parameters: Sequence[str], class_axes: Mapping[str, int]
) -> list[tuple[str, ...]]:
    """Names of the tensors of the head and of each auxiliary head.

    A model that is one stage has no other head than the parameters that it names, or those with a row a class.
    """
    names = _names_by_identity(chain.model)
    auxiliaries = [stage.auxiliary for stage in chain if stage.auxiliary is not None]
    parts = [_names_of(module, names) for module in auxiliaries]
    if len(chain) > 1:
        return [_names_of(chain[-1].module, names), *parts]
    elsewhere = {name for part in parts for name in part}
    return [tuple(head_parameters) or tuple(name for name in class_axes if name not in elsewhere), *parts]


def _names_by_identity(model: nn.Module) -> dict[int, str]:
    return {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}


def _names_of(module: nn.Module, names: Mapping[int, str]) -> tuple[str, ...]:
    tensors: Iterable[Tensor] = module.state_dict(keep_vars=True).values()
    return tuple(dict.fromkeys(names[id(tensor)] for tensor in tensors if id(tensor) in names))

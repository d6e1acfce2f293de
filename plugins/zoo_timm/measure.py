"""What cannot be read off timm's registry: whether an architecture is a chain, and the smallest input it takes.

Both are found on torch's meta device, which computes shapes only: the operators that the model runs are listed with the
tensors that go in, and those of its stages have to be the same. Where they are not, logits of real values are compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from zoo.chain import Chain
from zoo_timm.stages import stages

_CLASSES = 7
_SIZES = (
    8,
    16,
    24,
    32,
    40,
    48,
    56,
    64,
    80,
    96,
    112,
    128,
    160,
    192,
    224,
    256,
    288,
    320,
    336,
    384,
    448,
    512,
    768,
    896,
    1024,
)
# Ways to write the same values for another shape.
_SHAPES_ONLY = ("aten.view.", "aten._unsafe_view.", "aten.unsqueeze.", "aten.squeeze.")


@dataclass(frozen=True)
class Measured:
    """What was found of one architecture.

    Attributes:
        smallest_input: Height and width in pixels of the smallest input that gives logits.
        takes_image_size: Whether it can be built for another size of the input.
        no_logits: Why it is no classifier; empty for one.
        no_chain: Why it cannot be cut into stages; empty where it can.
        head_parameters: Names of its classifiers' parameters, where it cannot be cut.
        parameters: Their number, for 7 classes.
        stages: Names of its stages.
    """

    smallest_input: int = 1
    takes_image_size: bool = False
    no_logits: str = ""
    no_chain: str = ""
    head_parameters: tuple[str, ...] = ()
    parameters: int = 0
    stages: tuple[str, ...] = ()


def measure(name: str) -> Measured:
    """Build an architecture of timm without values and look at what it computes."""
    model = _build(name)
    size = tuple(model.pretrained_cfg["input_size"][1:])
    logits = _output(model, size)
    if logits != (2, _CLASSES):
        return Measured(
            no_logits=f"it gives {'no tensor' if logits is None else list(logits)} for 2 images of 7 classes"
        )
    no_chain, found = _chain(name, model, size)
    head = _classifier_parameters(model) if no_chain else ()
    takes_image_size = bool(model.pretrained_cfg.get("fixed_input_size")) and size[0] == size[1]
    if takes_image_size:
        smallest = next(_sizes(name, below=size[0]), size[0])
        takes_image_size = smallest != size[0] or _builds(name, 2 * size[0])
    else:
        smallest = next((edge for edge in _SIZES if edge < min(size) and _gives_logits(model, edge)), min(size))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Measured(smallest, takes_image_size, "", no_chain, head, parameters, found)


def _build(name: str, **options: Any) -> Any:
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=_CLASSES, **options)
    return model.to("meta").eval()


def _chain(name: str, model: nn.Module, size: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
    try:
        chain = Chain(model, stages(model))
        whole = chain.part().eval()
        # Twice: some models keep what their first run computes.
        same = any(_operators(model, model, size) == _operators(whole, model, size) for _ in range(2))
        same = same or _equal_logits(name, size)
    except Exception as error:  # whatever timm raises
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}", ()
    return ("" if same else "its stages compute something else than the model"), chain.names


def _equal_logits(name: str, size: tuple[int, ...]) -> bool:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=_CLASSES).eval()
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)  # many start at zero
        return torch.equal(model(images), Chain(model, stages(model)).part().eval()(images))


def _classifier_parameters(model: Any) -> tuple[str, ...]:
    classifiers = model.get_classifier()
    modules = classifiers if isinstance(classifiers, tuple | list) else [classifiers]
    own = {id(p) for module in modules for p in module.parameters()}
    return tuple(name for name, parameter in model.named_parameters() if id(parameter) in own)


def _sizes(name: str, *, below: int) -> Iterator[int]:
    yield from (edge for edge in _SIZES if edge < below and _builds(name, edge))


def _builds(name: str, edge: int) -> bool:
    try:
        return _gives_logits(_build(name, img_size=edge), edge)
    except Exception:  # whatever timm raises
        return False


def _gives_logits(model: nn.Module, edge: int) -> bool:
    """Whether a size gives logits, with pixels left in every map on the way."""
    try:
        with _Operators(model) as seen:
            return _output(model, (edge, edge)) == (2, _CLASSES) and not seen.empty_map
    except Exception:  # whatever timm raises
        return False


def _output(model: nn.Module, size: tuple[int, ...]) -> tuple[int, ...] | None:
    logits = _run(model, size)
    return tuple(logits.shape) if isinstance(logits, Tensor) else None


def _run(module: nn.Module, size: tuple[int, ...]) -> Any:
    with torch.no_grad():
        return module(torch.zeros(2, 3, *size, device="meta"))


def _operators(module: nn.Module, model: nn.Module, size: tuple[int, ...]) -> list[tuple[str, object]]:
    seen = _Operators(model)
    with seen:
        _run(module, size)
    return seen.rows


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lists every operator with what goes in: the model's tensors by name, others by the operator they come from."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[tuple[str, object]] = []
        self.empty_map = False
        self._names = {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
        self._alive: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = tree_map(self._name, (args, kwargs))
        result = func(*args, **kwargs)
        for i, output in enumerate(tree_flatten(result)[0]):
            if isinstance(output, Tensor):
                self.empty_map |= output.ndim > 2 and 0 in output.shape
                if id(output) not in self._names:
                    self._alive.append(output)  # or its id could be another's
                    same = str(func).startswith(_SHAPES_ONLY)
                    self._names[id(output)] = self._name(args[0]) if same else f"{len(self.rows)}.{i}"
        if not str(func).startswith(_SHAPES_ONLY):
            self.rows.append((str(func), inputs))
        return result

    def _name(self, value: Any) -> str:
        if not isinstance(value, Tensor):
            return repr(value)
        if id(value) not in self._names:
            self._alive.append(value)
            self._names[id(value)] = f"new {len(self._names)} {tuple(value.shape)}"
        return self._names[id(value)]

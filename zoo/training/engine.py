"""Where and how the arithmetic runs: device, precision, memory layout, optimizer, random numbers, processes."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.distributed
from torch import Tensor, nn

from zoo.errors import TrainingError, UsageError
from zoo.recipes import Phase
from zoo.training.batches import Batch

Precision = Literal["float32", "bfloat16"]
Features = Tensor | tuple[Tensor, ...]

# Share of a model's convolutions that are depthwise from which bfloat16 stops paying on CPUs: the kernels for them and
# their gradients have no bfloat16 path. Training on Zen 4, channels last, bfloat16 is this many times as fast as
# float32: ResNet-18 1.9, SimpleCNN 1.7, ResNet-20 1.4 to 1.8 (shares 0), EfficientNet-B0 0.7 (share 0.20),
# MobileNetV3-Small 0.5 (share 0.21).
_DEPTHWISE_HEAVY = 0.1


@dataclass(frozen=True)
class Numerics:
    """The choices that decide the last bits of a result. They are recorded and used again, never timed.

    Attributes:
        precision: What matrix products and convolutions compute in; parameters, losses and logits stay float32.
        channels_last: Whether images and 4-d weights are laid out channels last.
        batch_size: Samples a batch when evaluating.
        threads: Threads of torch on the CPU.
        reasons: Why, a sentence a choice.
    """

    precision: Precision
    channels_last: bool
    batch_size: int
    threads: int
    reasons: Mapping[str, str]


class Engine:
    """Runs modules on one device under one set of numerics.

    Making one sets torch's thread count to ``numerics.threads``, which other numbers of threads would not reproduce.

    Args:
        device: Where modules and batches go.
        numerics: From :func:`choose_numerics` or an artifact's header.
        rank: This process's number.
        world_size: Number of processes.
    """

    def __init__(self, device: torch.device, numerics: Numerics, *, rank: int = 0, world_size: int = 1) -> None:
        self.device = device
        self.numerics = numerics
        self.rank = rank
        self.world_size = world_size
        if torch.get_num_threads() != numerics.threads:
            torch.set_num_threads(numerics.threads)

    def with_numerics(self, numerics: Numerics) -> "Engine":
        """The same place with other numerics, whose thread count holds within :meth:`reproducible` alone."""
        other = copy.copy(self)
        other.numerics = numerics
        return other

    def place(self, module: nn.Module) -> None:
        """Move a module to the device and lay out its 4-d tensors, in place: parameters stay the same objects."""
        module.to(self.device)
        if self.numerics.channels_last:
            for tensor in [*module.parameters(), *module.buffers()]:
                tensor.data = _laid_out(tensor.data)

    def to_device(self, batch: Batch) -> Batch:
        """The batch on the device, its 4-d inputs laid out; the indices stay where they are."""
        return replace(
            batch,
            inputs=self.lay_out(_each(batch.inputs, lambda x: x.to(self.device, non_blocking=True))),
            targets=batch.targets.to(self.device, non_blocking=True),
        )

    def lay_out(self, features: Features) -> Features:
        """Features in the memory layout of the numerics; those that have it already are not copied."""
        return _each(features, _laid_out if self.numerics.channels_last else torch.Tensor.contiguous)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which modules run forward. Leave it before the loss, which is float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.numerics.precision == "bfloat16")

    def seed(self, seed: int) -> None:
        """Seed the random numbers of layers such as Dropout, on the CPU and on the device."""
        # Not torch.manual_seed: it also seeds every backend that is not in use, a millisecond a call.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)

    def all_sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, the same on each; it may be written to. With one, the tensor."""
        return self._reduced(tensor, torch.distributed.ReduceOp.SUM) if self.world_size > 1 else tensor

    def largest(self, *numbers: int) -> Any:
        """The largest of each number over all processes: how they take one decision together.

        Returns:
            One number, or a tuple where several are given.
        """
        if self.world_size > 1:
            # On the CPU, where no process waits for its GPU.
            tensor = self._reduced(torch.tensor(numbers), torch.distributed.ReduceOp.MAX)
            numbers = tuple(int(number) for number in tensor)
        return numbers if len(numbers) > 1 else numbers[0]

    def _reduced(self, tensor: Tensor, operation: Any) -> Tensor:
        try:
            torch.distributed.all_reduce(tensor, operation)
        except RuntimeError as error:
            raise TrainingError("another process of this run was lost; this one ends with it.") from error
        return tensor

    @contextmanager
    def reproducible(self) -> Iterator[None]:
        """Keep equal runs equal while the block runs, and the caller's random state and threads as they were."""
        on_gpu = self.device.type == "cuda"
        with (
            _threads(self.numerics.threads),
            torch.random.fork_rng(devices=[self.device] if on_gpu else []),
            torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=torch.backends.cudnn.allow_tf32),
        ):
            yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(name: str = "auto") -> torch.device:
    """The device that a name means.

    Args:
        name: ``"auto"`` takes a CUDA GPU, else Apple's, else the CPU; or a torch device such as ``"cuda:1"``.

    Raises:
        UsageError: There is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"device {name!r} cannot be used here: {_first_line(error)} Use 'auto', 'cpu', 'cuda' or 'mps'."
        ) from error
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def choose_numerics(
    module: nn.Module,
    device: torch.device,
    *,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    batch_size: int = 32,
    threads: int | None = None,
) -> Numerics:
    """Numerics for a model by rule, from its structure and the hardware: the same model gets the same each time.

    Args:
        module: The whole model, frozen part included.
        device: Where it will run.
        precision: What the user asked for; ``"auto"`` leaves it to the rule.
        batch_size: Samples a batch when evaluating.
        threads: Threads on the CPU; None keeps torch's present number.
    """
    chosen, precision_reason = _choose_precision(module, device) if precision == "auto" else (precision, "as asked")
    channels_last, layout_reason = _choose_layout(module, device)
    return Numerics(
        precision=chosen,
        channels_last=channels_last,
        batch_size=batch_size,
        threads=threads or torch.get_num_threads(),
        reasons={"precision": precision_reason, "channels_last": layout_reason},
    )


def make_optimizer(groups: list[dict[str, Any]], phase: Phase) -> torch.optim.Optimizer:
    """The optimizer of a phase.

    Args:
        groups: From :meth:`zoo.chain.Chain.parameter_groups`, with ``lr`` and ``weight_decay`` each. Adam's decay is
            the L2 kind, AdamW's is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101).
        phase: Names the optimizer.

    Raises:
        UsageError: There is nothing to train.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    if not parameters:
        raise UsageError(f"train = {phase.train!r} leaves nothing to train: the stages it names have no parameters.")
    fused = all(parameter.device.type in {"cpu", "cuda"} for parameter in parameters)
    match phase.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, fused=fused)
        case "sgd":
            sgd = torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=fused)
            for parameter in parameters:
                # Torch makes it at the first step, and leaves it without values if that step is skipped.
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return sgd


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the memory of the device is used up; then what is cached of it is given back."""
    found = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    if found and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def mix(*numbers: int) -> int:
    """One seed from several numbers, order mattering: neighbours give unrelated seeds (SplitMix64's finaliser).

    Returns:
        A whole number from 0 to 2**63 - 1.
    """
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _64_BITS
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _64_BITS
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _64_BITS
        state ^= state >> 31
    return state >> 1


_64_BITS = 2**64 - 1


def hardware_precision(device: torch.device) -> tuple[Precision, str]:
    """The narrowest precision that a device multiplies in hardware, and why in words."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "this GPU multiplies bfloat16 in hardware"
        return "float32", "this GPU has no bfloat16 arithmetic"
    if device.type != "cpu":
        return "float32", f"bfloat16 is not tested on {device.type}"
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "float32", "this processor has no bfloat16 arithmetic (AVX512-bf16 or AMX)"
    return "bfloat16", "this processor multiplies bfloat16 in hardware"


def _choose_precision(module: nn.Module, device: torch.device) -> tuple[Precision, str]:
    precision, reason = hardware_precision(device)
    if device.type != "cpu" or precision == "float32":
        return precision, reason
    if not _convolutions(module):
        return "float32", "without convolutions the conversions cost more than bfloat16 saves"
    share = _depthwise_share(module)
    if share >= _DEPTHWISE_HEAVY:
        return "float32", f"{share:.0%} of its convolutions are depthwise, which bfloat16 slows on processors"
    return precision, reason


def _choose_layout(module: nn.Module, device: torch.device) -> tuple[bool, str]:
    if device.type == "mps":
        return False, "channels last is not tested on mps"
    if len(_convolutions(module)) < 2:
        return False, "it has no convolutions, or only one that cuts the image into patches"
    return True, "convolutions run faster channels last"


def _depthwise_share(module: nn.Module) -> float:
    convolutions = _convolutions(module)
    depthwise = [c for c in convolutions if c.groups == c.in_channels > 1]
    return len(depthwise) / max(1, len(convolutions))


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _each(features: Features, function: Any) -> Features:
    return tuple(map(function, features)) if isinstance(features, tuple) else function(features)


def _laid_out(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."

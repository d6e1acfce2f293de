"""The pass: a frozen part run once over many images, as fast as the hardware goes."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.chain import Features, batch_norm_layers, tensor_digest
from zoo.errors import FreezeError
from zoo.training.allocator import can_keep_memory
from zoo.training.engine import Engine, Numerics, Precision, hardware_precision
from zoo.training.folding import fold_batch_norm
from zoo.training.fusing import can_fuse, fuse_convolutions

# Pixels of a batch. Images per second of processor time of ResNet-50 at 224 pixels on Zen 4 (AVX512-bf16), with freed
# memory kept: 21.5 in batches of 8, 22.5 of 16, 23.4 of 32, where the machine's matrix products allow 24.6. Without
# that, activations of many images are handed back to the kernel at every layer: 22.0, 21.7 and 20.2.
_BATCH_PIXELS = {"cpu, memory kept": 32 * 224**2, "cpu": 8 * 224**2, "gpu": 256 * 224**2}
_SMALLEST_BATCH, _LARGEST_BATCH = 4, 128
# Float32 sums in another order differ by less than 1e-6 of the norm in networks of 50 layers.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class PassNumerics:
    """The choices that decide the last bits of features. They are recorded, and part of what features are kept under.

    Attributes:
        numerics: Precision, layout, images a batch, threads.
        folding: Whether BatchNorm is folded into convolutions where that can be done.
        fusing: Whether activations and sums are joined to the convolutions before them where that can be done.
        device: Kind of device and, where it decides bits, its name.
        reasons: Why, a sentence a choice.
    """

    numerics: Numerics
    folding: bool
    fusing: bool
    device: str
    reasons: Mapping[str, str]

    def facts(self) -> dict[str, object]:
        """Plain values for a key."""
        return {
            "precision": self.numerics.precision,
            "channels_last": self.numerics.channels_last,
            "batch_size": self.numerics.batch_size,
            "threads": self.numerics.threads,
            "folding": self.folding,
            "fusing": self.fusing,
            "device": self.device,
            "torch": torch.__version__,
        }


def choose_pass_precision(
    part: nn.Module, device: torch.device, *, asked: Literal["auto", "float32", "bfloat16"] = "auto"
) -> tuple[Precision, str]:
    """Precision of a pass, by rule, and why.

    Inference in bfloat16 pays where training does not, on depthwise convolutions and on transformers: on Zen 4 a
    folded pass is this many times as fast as in float32: EfficientNet-B0 1.4, MobileNetV3-Small 1.4, ConvNeXt-T 2.0,
    ViT-B/16 2.0, ResNet-18 2.0.

    Args:
        part: The frozen part, or the whole model.
        device: Where it will run.
        asked: ``"auto"`` leaves it to the rule.
    """
    if asked != "auto":
        return asked, "as asked"
    if not any(isinstance(layer, nn.Conv2d | nn.Linear) for layer in part.modules()):
        return "float32", "it has no convolutions or matrix products to speed up"
    return hardware_precision(device)


def choose_pass_numerics(
    part: nn.Module, engine: Engine, *, precision: Precision, input_size: tuple[int, int, int]
) -> PassNumerics:
    """Numerics of a pass, by rule.

    Args:
        part: The frozen part.
        engine: Where it will run; the layout is the engine's.
        precision: From :func:`choose_pass_precision`.
        input_size: ``(C, H, W)`` of an image in pixels.
    """
    kind = "gpu" if engine.device.type != "cpu" else "cpu, memory kept" if can_keep_memory() else "cpu"
    fitting = _BATCH_PIXELS[kind] // (input_size[1] * input_size[2])
    batch_size = 2 ** max(0, fitting).bit_length() // 2
    batch_size = min(max(batch_size, _SMALLEST_BATCH), _LARGEST_BATCH)
    reasons = dict(engine.numerics.reasons)
    reasons["batch_size"] = {
        "gpu": "many images keep a GPU busy",
        "cpu, memory kept": "freed memory is kept, so a layer's weights are read for many images at once",
        "cpu": "activations of few images are not handed back to the kernel",
    }[kind]
    folding = bool(batch_norm_layers(part))
    reasons["folding"] = (
        "BatchNorm at rest is a part of the convolution before it" if folding else "there is no BatchNorm to fold"
    )
    fusing, reasons["fusing"] = _choose_fusing(part, engine, precision)
    # Fused on Zen 4, inductor with frozen weights gains nothing on ResNet-50 and 14 % on GoogLeNet and EfficientNet-B0,
    # for 14 s of compiling (benchmarks/fusing.py). By the number of images it could not be chosen: they share rows.
    reasons["compiling"] = "off: one photo would wait for it too, since rows that are shared are computed by equal code"
    reasons["precision"] = choose_pass_precision(part, engine.device)[1]
    if precision != choose_pass_precision(part, engine.device)[0]:
        reasons["precision"] = "as asked"
    numerics = replace(engine.numerics, precision=precision, batch_size=batch_size, reasons=reasons)
    return PassNumerics(numerics, folding, fusing, _device_name(engine.device), reasons)


def _choose_fusing(part: nn.Module, engine: Engine, precision: Precision) -> tuple[bool, str]:
    if engine.device.type != "cpu":
        return False, f"not tried on {engine.device.type}"
    if not can_fuse(precision):
        return False, f"there are no fused {precision} convolutions (oneDNN) on this machine"
    if not engine.numerics.channels_last or not any(isinstance(layer, nn.Conv2d) for layer in part.modules()):
        return False, "it has no convolutions, or only one that cuts the image into patches"
    return True, "activations and sums cost next to nothing while a convolution's result is in cache"


class FrozenPass:
    """A copy of a frozen part that is made for speed.

    BatchNorm is folded, convolutions are fused with what follows them, weights are converted to the pass's precision
    once and laid out for it. Where one of these changes the result by more than float32 sums in another order do, the
    copy goes without.

    Args:
        part: In eval mode; left as it is.
        engine: Where to run.
        chosen: From :func:`choose_pass_numerics`.
        example: A small batch of normalised images ``(N, C, H, W)``, float32, to try it on.

    Attributes:
        folded: How many BatchNorm layers are folded.
        fused: How many activations and sums are joined to convolutions.
        notes: What became of each choice, in words.
    """

    def __init__(self, part: nn.Module, *, engine: Engine, chosen: PassNumerics, example: Tensor) -> None:
        self.engine = engine.with_numerics(chosen.numerics)
        self.folded = self.fused = 0
        self.notes = {"folding": chosen.reasons["folding"], "fusing": chosen.reasons["fusing"]}
        example = example.to(engine.device)
        self.engine.place(part)
        laid_out = self.engine.lay_out(example)
        assert isinstance(laid_out, Tensor)
        self._module = copy.deepcopy(part).eval().requires_grad_(False)
        if chosen.folding:
            self._fold(part, laid_out)
        self._fast = self._module
        if chosen.fusing:
            self._fuse(laid_out)
        if chosen.numerics.precision == "bfloat16":
            _convert_weights(self._module)
        self.engine.place(self._module)
        self._writes = _writes(self._module)
        self._at_rest = _digests(self._module)

    def __call__(self, images: Tensor) -> Features:
        """Features of normalised images ``(N, C, H, W)`` on the device.

        Raises:
            FreezeError: The part changed its own parameters or buffers, so its features are none to keep.
        """
        with torch.inference_mode(), self.engine.autocast():
            features: Features = self._fast(self.engine.lay_out(images))
        self._check_rest()
        return features

    def _check_rest(self) -> None:
        writes = _writes(self._module)
        if writes == self._writes:
            return
        found = _digests(self._module)
        changed = [name for name, digest in self._at_rest.items() if found.get(name) != digest]
        if changed:
            raise FreezeError(
                f"the frozen part changes its own parameters or buffers when it runs: {', '.join(changed[:5])}. "
                "Its features differ from call to call; no artifact was written."
            )
        self._writes = writes

    def _fold(self, part: nn.Module, example: Features) -> None:
        # Not in inference mode, whose tensors do not count how often they are written to.
        with torch.no_grad():
            expected = part(example)
            try:
                self.folded = fold_batch_norm(self._module, example)
                reason = _difference(self._module(example), expected)
            except (AttributeError, RuntimeError, TypeError, ValueError) as error:
                # A forward method that looks into its BatchNorm layers.
                reason = _in_words(error)
        if reason:
            self.folded = 0
            self.notes["folding"] = f"not folded: {reason}"
            self._module = copy.deepcopy(part).eval().requires_grad_(False)

    def _fuse(self, example: Tensor) -> None:
        writes = _writes(self._module)
        with torch.no_grad():
            expected = self._module(example)
            try:
                fast, fused = fuse_convolutions(self._module, torch.cat((example, example)))
                reason = _difference(fast(example), expected)
            except Exception as error:
                # Tracing calls forward methods with what are no tensors: any error may come of it.
                reason = _in_words(error)
        if _writes(self._module) != writes:
            reason = "it changes its own parameters or buffers when it runs"
        if reason:
            self.notes["fusing"] = f"not fused: {reason}"
        else:
            self._fast, self.fused = fast, fused


def multiply_adds(part: nn.Module, example: Features) -> int:
    """Multiply-adds of the convolutions and linear layers for one sample, counted in one run.

    Args:
        part: In eval mode.
        example: One sample of its inputs, on its device.
    """
    count = 0

    def add(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal count
        weight = layer.weight
        assert isinstance(weight, Tensor)
        count += output[0].numel() * weight[0].numel()

    handles = [m.register_forward_hook(add) for m in part.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    try:
        with torch.inference_mode():
            part(example)
    finally:
        for handle in handles:
            handle.remove()
    return count


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _writes(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Which tensors there are, and how often each was written to in place: quick to compare after every call."""
    return {name: (id(tensor), tensor._version) for name, tensor in _tensors(module)}


def _digests(module: nn.Module) -> dict[str, str]:
    return {name: tensor_digest(tensor) for name, tensor in _tensors(module)}


def _convert_weights(module: nn.Module) -> None:
    """Bring what autocast would convert at every call to bfloat16 once: the same values go into the same products."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(torch.bfloat16)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _difference(found: Features, expected: Features) -> str:
    """By how much a result differs, in words; empty where float32 sums in another order could be the reason."""
    difference = _relative_difference(found, expected)
    return "" if difference <= _TOLERANCE else f"results differ by {difference:.1e}"


def _relative_difference(found: Features, expected: Features) -> float:
    """Largest distance of two results relative to the norm of the expected one."""
    if isinstance(found, tuple) and isinstance(expected, tuple):
        return max((_relative_difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    assert isinstance(found, Tensor)
    assert isinstance(expected, Tensor)
    norm = expected.double().norm().clamp_min(1e-30)
    return float((found.double() - expected.double()).norm() / norm)


def _device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type

"""Try architectures out and print a table: what works, and what does not with its reason.

``python scripts/check_zoo.py resnet/resnet18 'vgg/*'`` checks those that match; ``--timm-families`` checks the smallest
of every family of timm. Each has random values. Its images have 96 pixels or the smallest size that it takes, where it
takes any; else its own size, or the smallest it can be built for.
"""

import argparse
import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from zoo.architecture import Architecture, OptionValue
from zoo.chain import Chain
from zoo.plugins import Plugins
from zoo.plugins.catalogue import open_plugins
from zoo.plugins.hooks import PluginHooks
from zoo.state_files import read_state, write_safetensors
from zoo.weights import build

CLASSES, OTHER_CLASSES = 10, 7
# Pixels: of models that take any size, and the most for those that are built for one.
SIZE, LARGEST = 96, 224

# The member of each of timm's families with the fewest parameters, timm's own test models aside. The family
# deepseek_vit is not here: its smallest takes 546×546 pixels, and a minute for each image.
SMALLEST = (
    "beit_base_patch16_224",
    "halonet_h1",
    "mobileone_s0",
    "cait_xxs24_224",
    "coat_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "convnext_zepto_rms",
    "cpubone_nano",
    "crossvit_tiny_240",
    "csatv2",
    "cs3darknet_focus_s",
    "cspnext_tiny",
    "davit_tiny",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla46x_c",
    "dpn48b",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "mobilenetv2_035",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "vit_tiny_patch16_dinov3_qkvb",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "gemma4_vit_167m",
    "ghostnet_050",
    "hardcorenas_a",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "sam2_hiera_tiny",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnetv2_small",
    "levit_128s",
    "lowformer_b0",
    "mambaout_femto",
    "coatnet_pico_rw_224",
    "poolformerv2_s12",
    "gmlp_ti16_224",
    "lcnet_035",
    "mobilenetv5_base",
    "mobilevit_xxs",
    "mvitv2_tiny",
    "naflexvit_base_patch16_siglip",
    "nasnetalarge",
    "nest_tiny",
    "nextvit_small",
    "nf_regnet_b0",
    "pit_ti_224",
    "pnasnet5large",
    "pvt_v2_b0",
    "qwen3_vit_88m",
    "rdnet_tiny",
    "regnetx_002",
    "repghostnet_050",
    "repvit_m1",
    "res2net50_14w_8s",
    "resnest14d",
    "resnet10t",
    "resnetv2_18",
    "rexnet_100",
    "selecsls42b",
    "legacy_seresnet18",
    "sequencer2d_s",
    "shvit_s1",
    "skresnet50",
    "starnet_s050",
    "swiftformer_xs",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "swinv2_cr_tiny_224",
    "tiny_vit_5m_224",
    "tnt_s_legacy_patch16_224",
    "tresnet_m",
    "twins_svt_small",
    "vgg11",
    "visformer_tiny",
    "vit_tiny_patch16_224",
    "vit_tiny_r_s16_p8_224",
    "vit_srelpos_small_patch16_224",
    "samvit_base_patch16_224",
    "vitamin_small_224",
    "volo_d1_224",
    "ese_vovnet19b_slim_dw",
    "legacy_xception",
    "xception41p",
    "xcit_nano_12_p8_224",
)


@dataclass
class Subject:
    """One architecture with what its checks need.

    Attributes:
        architecture: Its facts.
        hooks: Its plugin.
        size: Height and width of the images, in pixels.
        options: What it is built with.
        model: With :data:`CLASSES` classes.
        images: ``(N, 3, H, W)``: two, or one above :data:`LARGEST`.
    """

    architecture: Architecture
    hooks: PluginHooks
    size: tuple[int, int]
    options: Mapping[str, OptionValue]
    model: nn.Module
    images: Tensor

    def chain(self, model: nn.Module | None = None) -> Chain:
        """The stages of a model, made anew."""
        model = self.model if model is None else model
        stages = self.hooks.stages(self.architecture, model)
        return Chain(model, stages, head_parameters=self.architecture.head_parameters)

    def built(self, *, num_classes: int = CLASSES, in_channels: int = 3) -> nn.Module:
        """The model with other classes or channels, the rest of it filled with this one's values."""
        state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        model, report = build(
            self.hooks,
            self.architecture,
            num_classes=num_classes,
            in_channels=in_channels,
            options=self.options,
            state=state,
            seed=1,
        )
        kept = num_classes == CLASSES
        assert bool(report.initialised) != kept, f"initialised: {', '.join(report.initialised[:3]) or 'nothing'}"
        return model


@dataclass(frozen=True)
class Row:
    """What became of one architecture.

    Attributes:
        name: Its full name.
        checks: For each check ``"yes"``, or why not.
        parameters: Their number, with :data:`CLASSES` classes.
        stages: How many.
        size: Height and width of the images, in pixels.
        smallest: Of the facts, to evaluate and to train.
        seconds: Of all checks.
    """

    name: str
    checks: Mapping[str, str]
    parameters: int
    stages: int
    size: tuple[int, int]
    smallest: tuple[int, int]
    seconds: float

    @property
    def failures(self) -> dict[str, str]:
        """The checks that failed, with the reasons."""
        return {check: found for check, found in self.checks.items() if found != "yes"}


def stages_equal_the_model(subject: Subject) -> None:
    """In eval mode the stages in order give the model's logits, bit for bit; its tensors are owned once."""
    whole = subject.chain().part().eval()
    with torch.no_grad():
        expected, found = subject.model(subject.images), whole(subject.images)
    assert expected.shape == (len(subject.images), CLASSES), f"logits of shape {tuple(expected.shape)}"
    assert torch.equal(expected, found), f"logits differ by up to {float((expected - found).abs().max()):.3g}"


def head_for_other_classes(subject: Subject) -> None:
    """A model for 7 classes takes everything over but what has a row a class."""
    model = subject.built(num_classes=OTHER_CLASSES)
    with torch.no_grad():
        assert model(subject.images).shape == (len(subject.images), OTHER_CLASSES)


def one_channel(subject: Subject) -> None:
    """A model for grey images takes the kernels of the first convolution summed."""
    model = subject.built(in_channels=1)
    with torch.no_grad():
        assert model(subject.images[:, :1]).shape == (len(subject.images), CLASSES)


def frozen_backbone_rests(subject: Subject) -> None:
    """A step with only the head training changes the head and nothing else."""
    chain = subject.chain()
    cut = chain.cut("head")
    chain.freeze(cut)
    before = chain.digest(cut)
    trained = [p for name, p in subject.model.named_parameters() if name in cut.trained]
    assert trained, "nothing to train"
    old = [p.detach().clone() for p in trained]
    logits = chain.part()(subject.images)
    loss = nn.functional.cross_entropy(logits, torch.arange(len(subject.images)))
    loss.backward()
    torch.optim.SGD(trained, lr=0.1).step()
    assert chain.digest(cut) == before, "a frozen tensor changed"
    changed = any(not torch.equal(p, q) for p, q in zip(trained, old, strict=True))
    assert changed, "the head did not change"
    assert all(p.grad is None for name, p in subject.model.named_parameters() if name not in cut.trained)
    subject.model.eval().requires_grad_(True)


def file_gives_equal_logits(subject: Subject) -> None:
    """Written to a file, read back and built anew, the model gives equal logits."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_safetensors(path, dict(subject.hooks.export_state(subject.architecture, subject.model)))
        model, report = build(
            subject.hooks,
            subject.architecture,
            num_classes=CLASSES,
            in_channels=3,
            options=subject.options,
            state=read_state(path),
            seed=2,
        )
    assert not report.initialised, f"without a value: {', '.join(report.initialised[:3])}"
    with torch.no_grad():
        assert torch.equal(model(subject.images), subject.model(subject.images)), "logits differ"


CHECKS: Mapping[str, Callable[[Subject], None]] = {
    "chain": stages_equal_the_model,
    "7 classes": head_for_other_classes,
    "1 channel": one_channel,
    "frozen": frozen_backbone_rests,
    "file": file_gives_equal_logits,
}


def check(plugins: Plugins, name: str) -> Row:
    """Try one architecture out.

    Args:
        plugins: Where its plugin is.
        name: Its full name.
    """
    start = time.perf_counter()
    architecture = plugins.resolve(name).architecture
    smallest = (architecture.smallest_input, architecture.smallest_training_input)
    options, size = _options_and_size(architecture)
    parameters = stages = 0
    checks: dict[str, str] = {}
    try:
        subject = _subject(plugins, architecture, options, size)
        checks["builds"] = "yes"
        parameters = sum(parameter.numel() for parameter in subject.model.parameters())
        stages = len(subject.chain())
    except Exception as error:  # every reason belongs into the table
        checks["builds"] = _reason(error)
    else:
        for title, run in CHECKS.items():
            try:
                run(subject)
                checks[title] = "yes"
            except Exception as error:
                checks[title] = _reason(error)
    seconds = time.perf_counter() - start
    return Row(architecture.full_name, checks, parameters, stages, size, smallest, seconds)


def _subject(
    plugins: Plugins, architecture: Architecture, options: Mapping[str, OptionValue], size: tuple[int, int]
) -> Subject:
    hooks = plugins.hooks(architecture.plugin)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1 if max(size) > LARGEST else 2, 3, *size, generator=generator)
    model, _ = build(hooks, architecture, num_classes=CLASSES, in_channels=3, options=options, state=None, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():  # many start at zero, which would hide them
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.01)
    return Subject(architecture, hooks, size, options, model.eval(), images)


def _options_and_size(architecture: Architecture) -> tuple[Mapping[str, OptionValue], tuple[int, int]]:
    height, width = architecture.preprocessing.input_size[1:]
    options = architecture.parse_options({})
    smallest = architecture.smallest_training_input
    if "image_size" not in options:
        height, width = (max(smallest, min(edge, SIZE)) for edge in (height, width))
    elif max(height, width) > LARGEST:
        options["image_size"] = height = width = smallest
    return options, (height, width)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def table(rows: Iterable[Row]) -> Iterator[str]:
    """The rows as Markdown as they come, the reasons of failures below."""
    titles = ["builds", *CHECKS]
    yield "| architecture | " + " | ".join(titles) + " | stages | size | smallest (evaluate, train) | parameters | s |"
    yield "|" + "---|" * (len(titles) + 6)
    seen = []
    for row in rows:
        seen.append(row)
        marks = ["yes" if row.checks.get(title) == "yes" else "**no**" for title in titles]
        sizes = f"{row.size[0]}×{row.size[1]} | {row.smallest[0]}, {row.smallest[1]}"
        yield f"| {row.name} | {' | '.join(marks)} | {row.stages} | {sizes} | {row.parameters:,} | {row.seconds:.1f} |"
    for row in seen:
        for title, reason in row.failures.items():
            yield f"- {row.name}, {title}: {reason}"
    good = sum(not row.failures for row in seen)
    yield f"{good} of {len(seen)} pass every check; {sum(row.seconds for row in seen):.0f} s."


def main() -> int:
    """Check what is asked for; leaves 1 where a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", help="full names, with * and ?")
    parser.add_argument("--timm-families", action="store_true", help="the smallest of every family of timm")
    options = parser.parse_args()
    plugins = open_plugins()
    names = [architecture.full_name for architecture in plugins.architectures()]
    wanted = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in options.patterns)]
    wanted += [f"timm/{name}" for name in SMALLEST if options.timm_families]
    failed = False
    for line in table(check(plugins, name) for name in wanted):
        failed |= line.startswith("- ")
        print(line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

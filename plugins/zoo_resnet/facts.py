"""Weights that torchvision publishes, as facts: written by ``scripts/generate_facts.py``, not by hand."""

from collections.abc import Mapping

from zoo.architecture import Interpolation, Preprocessing, Weights


def _weights(
    tag: str,
    file: str,
    *,
    top1: float | None = None,
    top5: float | None = None,
    crop: int,
    resize: int,
    interpolation: Interpolation = "bilinear",
    mean: tuple[float, ...] = Preprocessing.mean,
    std: tuple[float, ...] = Preprocessing.std,
) -> Weights:
    """One row; ``file`` ends in the first eight hex digits of its SHA-256, and no figures means an unusable head."""
    figures = {} if top1 is None or top5 is None else {"imagenet1k/top1": top1, "imagenet1k/top5": top5}
    return Weights(
        tag=tag,
        url=f"https://download.pytorch.org/models/{file}",
        sha256_prefix=file.removesuffix(".pth").rpartition("-")[2],
        class_names="imagenet1k" if figures else "",
        preprocessing=Preprocessing(
            input_size=(3, crop, crop), mean=mean, std=std, interpolation=interpolation, crop_pct=crop / resize
        ),
        metrics=figures,
        source="torchvision",
    )


WEIGHTS: Mapping[str, tuple[Weights, ...]] = {
    "resnet18": (_weights("imagenet1k_v1", "resnet18-f37072fd.pth", top1=69.758, top5=89.078, crop=224, resize=256),),
    "resnet34": (_weights("imagenet1k_v1", "resnet34-b627a593.pth", top1=73.314, top5=91.42, crop=224, resize=256),),
    "resnet50": (
        _weights("imagenet1k_v1", "resnet50-0676ba61.pth", top1=76.13, top5=92.862, crop=224, resize=256),
        _weights("imagenet1k_v2", "resnet50-11ad3fa6.pth", top1=80.858, top5=95.434, crop=224, resize=232),
    ),
    "resnet101": (
        _weights("imagenet1k_v1", "resnet101-63fe2227.pth", top1=77.374, top5=93.546, crop=224, resize=256),
        _weights("imagenet1k_v2", "resnet101-cd907fc2.pth", top1=81.886, top5=95.78, crop=224, resize=232),
    ),
    "resnet152": (
        _weights("imagenet1k_v1", "resnet152-394f9c45.pth", top1=78.312, top5=94.046, crop=224, resize=256),
        _weights("imagenet1k_v2", "resnet152-f82ba261.pth", top1=82.284, top5=96.002, crop=224, resize=232),
    ),
    "resnext50_32x4d": (
        _weights("imagenet1k_v1", "resnext50_32x4d-7cdf4587.pth", top1=77.618, top5=93.698, crop=224, resize=256),
        _weights("imagenet1k_v2", "resnext50_32x4d-1a0047aa.pth", top1=81.198, top5=95.34, crop=224, resize=232),
    ),
    "resnext101_32x8d": (
        _weights("imagenet1k_v1", "resnext101_32x8d-8ba56ff5.pth", top1=79.312, top5=94.526, crop=224, resize=256),
        _weights("imagenet1k_v2", "resnext101_32x8d-110c445d.pth", top1=82.834, top5=96.228, crop=224, resize=232),
    ),
    "resnext101_64x4d": (
        _weights("imagenet1k_v1", "resnext101_64x4d-173b62eb.pth", top1=83.246, top5=96.454, crop=224, resize=232),
    ),
    "wide_resnet50_2": (
        _weights("imagenet1k_v1", "wide_resnet50_2-95faca4d.pth", top1=78.468, top5=94.086, crop=224, resize=256),
        _weights("imagenet1k_v2", "wide_resnet50_2-9ba9bcbe.pth", top1=81.602, top5=95.758, crop=224, resize=232),
    ),
    "wide_resnet101_2": (
        _weights("imagenet1k_v1", "wide_resnet101_2-32ee1156.pth", top1=78.848, top5=94.284, crop=224, resize=256),
        _weights("imagenet1k_v2", "wide_resnet101_2-d733dc28.pth", top1=82.51, top5=96.02, crop=224, resize=232),
    ),
}

DEFAULTS: Mapping[str, str] = {
    "resnet18": "imagenet1k_v1",
    "resnet34": "imagenet1k_v1",
    "resnet50": "imagenet1k_v2",
    "resnet101": "imagenet1k_v2",
    "resnet152": "imagenet1k_v2",
    "resnext50_32x4d": "imagenet1k_v2",
    "resnext101_32x8d": "imagenet1k_v2",
    "resnext101_64x4d": "imagenet1k_v1",
    "wide_resnet50_2": "imagenet1k_v2",
    "wide_resnet101_2": "imagenet1k_v2",
}

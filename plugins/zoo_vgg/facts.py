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
    "vgg11": (_weights("imagenet1k_v1", "vgg11-8a719046.pth", top1=69.02, top5=88.628, crop=224, resize=256),),
    "vgg11_bn": (_weights("imagenet1k_v1", "vgg11_bn-6002323d.pth", top1=70.37, top5=89.81, crop=224, resize=256),),
    "vgg13": (_weights("imagenet1k_v1", "vgg13-19584684.pth", top1=69.928, top5=89.246, crop=224, resize=256),),
    "vgg13_bn": (_weights("imagenet1k_v1", "vgg13_bn-abd245e5.pth", top1=71.586, top5=90.374, crop=224, resize=256),),
    "vgg16": (
        _weights("imagenet1k_v1", "vgg16-397923af.pth", top1=71.592, top5=90.382, crop=224, resize=256),
        _weights(
            "imagenet1k_features",
            "vgg16_features-amdegroot-88682ab5.pth",
            crop=224,
            resize=256,
            mean=(0.48235, 0.45882, 0.40784),
            std=(0.00392156862745098, 0.00392156862745098, 0.00392156862745098),
        ),
    ),
    "vgg16_bn": (_weights("imagenet1k_v1", "vgg16_bn-6c64b313.pth", top1=73.36, top5=91.516, crop=224, resize=256),),
    "vgg19": (_weights("imagenet1k_v1", "vgg19-dcbb9e9d.pth", top1=72.376, top5=90.876, crop=224, resize=256),),
    "vgg19_bn": (_weights("imagenet1k_v1", "vgg19_bn-c79401a0.pth", top1=74.218, top5=91.842, crop=224, resize=256),),
}

DEFAULTS: Mapping[str, str] = {
    "vgg11": "imagenet1k_v1",
    "vgg11_bn": "imagenet1k_v1",
    "vgg13": "imagenet1k_v1",
    "vgg13_bn": "imagenet1k_v1",
    "vgg16": "imagenet1k_v1",
    "vgg16_bn": "imagenet1k_v1",
    "vgg19": "imagenet1k_v1",
    "vgg19_bn": "imagenet1k_v1",
}

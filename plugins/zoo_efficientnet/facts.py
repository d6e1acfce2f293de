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
    "efficientnet_b0": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_b0_rwightman-7f5810bc.pth",
            top1=77.692,
            top5=93.532,
            crop=224,
            resize=256,
            interpolation="bicubic",
        ),
    ),
    "efficientnet_b1": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_b1_rwightman-bac287d4.pth",
            top1=78.642,
            top5=94.186,
            crop=240,
            resize=256,
            interpolation="bicubic",
        ),
        _weights("imagenet1k_v2", "efficientnet_b1-c27df63c.pth", top1=79.838, top5=94.934, crop=240, resize=255),
    ),
    "efficientnet_b2": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_b2_rwightman-c35c1473.pth",
            top1=80.608,
            top5=95.31,
            crop=288,
            resize=288,
            interpolation="bicubic",
        ),
    ),
    "efficientnet_b3": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_b3_rwightman-b3899882.pth",
            top1=82.008,
            top5=96.054,
            crop=300,
            resize=320,
            interpolation="bicubic",
        ),
    ),
    "efficientnet_b4": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_b4_rwightman-23ab8bcd.pth",
            top1=83.384,
            top5=96.594,
            crop=380,
            resize=384,
            interpolation="bicubic",
        ),
    ),
    "efficientnet_b5": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_b5_lukemelas-1a07897c.pth",
            top1=83.444,
            top5=96.628,
            crop=456,
            resize=456,
            interpolation="bicubic",
        ),
    ),
    "efficientnet_b6": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_b6_lukemelas-24a108a5.pth",
            top1=84.008,
            top5=96.916,
            crop=528,
            resize=528,
            interpolation="bicubic",
        ),
    ),
    "efficientnet_b7": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_b7_lukemelas-c5b4e57e.pth",
            top1=84.122,
            top5=96.908,
            crop=600,
            resize=600,
            interpolation="bicubic",
        ),
    ),
    "efficientnet_v2_s": (
        _weights("imagenet1k_v1", "efficientnet_v2_s-dd5fe13b.pth", top1=84.228, top5=96.878, crop=384, resize=384),
    ),
    "efficientnet_v2_m": (
        _weights("imagenet1k_v1", "efficientnet_v2_m-dc08266a.pth", top1=85.112, top5=97.156, crop=480, resize=480),
    ),
    "efficientnet_v2_l": (
        _weights(
            "imagenet1k_v1",
            "efficientnet_v2_l-59c71312.pth",
            top1=85.808,
            top5=97.788,
            crop=480,
            resize=480,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    ),
}

DEFAULTS: Mapping[str, str] = {
    "efficientnet_b0": "imagenet1k_v1",
    "efficientnet_b1": "imagenet1k_v2",
    "efficientnet_b2": "imagenet1k_v1",
    "efficientnet_b3": "imagenet1k_v1",
    "efficientnet_b4": "imagenet1k_v1",
    "efficientnet_b5": "imagenet1k_v1",
    "efficientnet_b6": "imagenet1k_v1",
    "efficientnet_b7": "imagenet1k_v1",
    "efficientnet_v2_s": "imagenet1k_v1",
    "efficientnet_v2_m": "imagenet1k_v1",
    "efficientnet_v2_l": "imagenet1k_v1",
}

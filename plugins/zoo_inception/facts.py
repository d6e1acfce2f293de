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
    "googlenet": (_weights("imagenet1k_v1", "googlenet-1378be20.pth", top1=69.778, top5=89.53, crop=224, resize=256),),
    "inception_v3": (
        _weights("imagenet1k_v1", "inception_v3_google-0cc3c7bd.pth", top1=77.294, top5=93.45, crop=299, resize=342),
    ),
}

DEFAULTS: Mapping[str, str] = {
    "googlenet": "imagenet1k_v1",
    "inception_v3": "imagenet1k_v1",
}

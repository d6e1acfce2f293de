"""Lists of class names that published weights share."""

from pathlib import Path

_FILES = {"imagenet1k": "imagenet1k.txt"}


def class_names(name: str) -> tuple[str, ...]:
    """The classes of a well-known data set, in the order of the logits.

    Args:
        name: As in :attr:`zoo.architecture.Weights.class_names`: ``"imagenet1k"`` is ILSVRC 2012 (Russakovsky et al.
            2015, arXiv:1409.0575) with torchvision's words for its 1000 classes.

    Returns:
        Names that differ from each other; empty when the list is not known.
    """
    if name not in _FILES:
        return ()
    return tuple((Path(__file__).parent / _FILES[name]).read_text(encoding="utf-8").splitlines())

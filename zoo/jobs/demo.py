"""The whole job on real data that is always at hand: scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from zoo.jobs.finetuning import finetune
from zoo.jobs.proof import Verification, verify
from zoo.models import load
from zoo.progress import Progress, Silent
from zoo.recipes import Phase, Recipe
from zoo.runs import Run, exists_error

_SIZE = 32
_LEARN = Recipe(
    name="demo-learn", phases=(Phase(epochs=12, lr=3e-3, schedule="one-cycle", augment="none", batch_size=32),)
)
_TRANSFER = Recipe(
    name="demo-transfer", phases=(Phase(epochs=20, train="head", lr=2e-3, schedule="one-cycle", batch_size=32),)
)


@dataclass(frozen=True)
class Demo:
    """What the demo did.

    Attributes:
        base: The training on the digits 0 to 4.
        run: The fine-tuning to 5 to 9 on frozen convolutions.
        verification: Of its artifact, against the first one.
        prediction: What the artifact says about one image of the test split, and what it is.
        seconds: All of it.
    """

    base: Run
    run: Run
    verification: Verification
    prediction: tuple[str, float, str]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The document of the fine-tuning, with the verification."""
        return {
            **self.run.summary(),
            "verified": True,
            "frozen_stages": self.verification.frozen_stages,
            "seconds": round(self.seconds, 2),
        }


def demo(output: str | Path, *, seed: int = 0, progress: Progress = Silent()) -> Demo:
    """Train on the handwritten digits 0 to 4, fine-tune to 5 to 9 on frozen convolutions, verify, predict.

    The images are the 1,797 digits that come with scikit-learn (Alpaydin and Kaynak 1998, UCI), enlarged from 8×8 to
    32×32. Nothing is downloaded.

    Args:
        output: Folder for both runs; must not exist.
        seed: Decides everything random.
        progress: Where to say what is happening.

    Raises:
        RunExistsError: ``output`` exists.
    """
    started = monotonic()
    output = Path(output)
    if output.exists():
        raise exists_error(output)
    with TemporaryDirectory() as temporary:
        first, second = Path(temporary) / "digits-0-4", Path(temporary) / "digits-5-9"
        progress.note("1/4  the digits 0 to 4, from random values")
        write_digits(first, range(5))
        base = finetune(
            first,
            model="simple_cnn",
            recipe=_LEARN,
            image_size=_SIZE,
            in_channels=1,
            seed=seed,
            output=output / "digits-0-4",
            progress=progress,
        )
        progress.note("2/4  the digits 5 to 9, on the convolutions that 0 to 4 taught, frozen")
        write_digits(second, range(5, 10))
        run = finetune(
            second,
            model="simple_cnn",
            weights=base.artifact,
            recipe=_TRANSFER,
            image_size=_SIZE,
            in_channels=1,
            seed=seed,
            output=output / "digits-5-9",
            progress=progress,
        )
        progress.note("3/4  is the artifact what it claims to be, and its frozen part that of the first run?")
        verification = verify(run.artifact, parent=base.artifact)
        progress.note("4/4  one image")
        image = sorted((second / "7").iterdir())[0]
        prediction = load(run.artifact).predict(image)
    return Demo(base, run, verification, (prediction.label, prediction.probability, "7"), monotonic() - started)


def write_digits(folder: Path, digits: Sequence[int]) -> None:
    """Write scikit-learn's handwritten digits as PNG files, one folder a digit.

    Args:
        folder: Made here.
        digits: Which of 0 to 9.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    for digit in digits:
        (folder / str(digit)).mkdir(parents=True)
    for i, (pixels, digit) in enumerate(zip(data.images, data.target.tolist(), strict=True)):
        if digit in digits:
            image = Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8))
            image.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC).save(folder / str(digit) / f"{i:04d}.png")

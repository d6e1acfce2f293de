"""fastai's vision_learner, frozen."""

import argparse
import json
import time

started = time.perf_counter()
parser = argparse.ArgumentParser()
parser.add_argument("--architecture", default="resnet50")
parser.add_argument("--data", required=True)
parser.add_argument("--weights", required=True)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--images", type=int)
options = parser.parse_args()

from fastai.vision.all import (  # noqa: E402
    Callback,
    ImageDataLoaders,
    Path,
    Resize,
    get_image_files,
    vision_learner,
)
from safetensors.torch import load_file  # noqa: E402
from torchvision import models  # noqa: E402


class Clock(Callback):
    def before_train(self):
        self.began = time.perf_counter()

    def after_train(self):
        epochs.append(time.perf_counter() - self.began)


epochs: list[float] = []
files = sorted(get_image_files(Path(options.data)))[: options.images]
loaders = ImageDataLoaders.from_path_func(
    options.data, files, lambda path: path.parent.name, valid_pct=0.001, item_tfms=Resize(224), bs=32, num_workers=2
)
learner = vision_learner(loaders, getattr(models, options.architecture), pretrained=False, cbs=Clock())
state = load_file(options.weights)
body = models.get_model(options.architecture)
body.load_state_dict(state)
learner.model[0].load_state_dict(
    dict(zip(learner.model[0].state_dict(), list(body.state_dict().values())[:-2], strict=True))
)
learner.freeze()
setup_s = time.perf_counter() - started
with learner.no_bar(), learner.no_logging():
    learner.fit(options.epochs, lr=1e-3)
print(
    json.dumps(
        {"setup_s": setup_s, "epochs_s": epochs, "images": len(files), "loss": float(learner.recorder.losses[-1])}
    )
)

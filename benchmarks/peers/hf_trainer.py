"""Hugging Face's Trainer over torchvision's model with a frozen backbone."""

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

import tempfile  # noqa: E402

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import Subset  # noqa: E402
from torchvision import datasets, models, transforms  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: E402


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = models.get_model(options.architecture)
        self.net.load_state_dict(load_file(options.weights))
        self.net.requires_grad_(False)
        self.net.fc = nn.Linear(self.net.fc.in_features, len(data.classes))

    def forward(self, pixel_values, labels):
        logits = self.net(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.epochs: list[float] = []

    def on_epoch_begin(self, *_, **__):
        self.began = time.perf_counter()

    def on_epoch_end(self, *_, **__):
        self.epochs.append(time.perf_counter() - self.began)


steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
data = datasets.ImageFolder(options.data, transforms.Compose(steps))
chosen = Subset(data, range(options.images)) if options.images else data
clock = Clock()
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model=Classifier(),
        args=TrainingArguments(
            folder,
            per_device_train_batch_size=32,
            num_train_epochs=options.epochs,
            dataloader_num_workers=2,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=chosen,
        data_collator=lambda rows: {
            "pixel_values": torch.stack([row[0] for row in rows]),
            "labels": torch.tensor([row[1] for row in rows]),
        },
        callbacks=[clock],
    )
    setup_s = time.perf_counter() - started
    loss = trainer.train().training_loss
print(json.dumps({"setup_s": setup_s, "epochs_s": clock.epochs, "images": len(chosen), "loss": loss}))

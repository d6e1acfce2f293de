"""Hugging Face's Trainer on a small ViT from random values, which writes down what each of its steps saw.

With --resume it goes on from its newest checkpoint, as its own ``resume_from_checkpoint=True`` does.
"""

import argparse
import hashlib
import json
import os
import signal
from pathlib import Path

import torch
from torch import nn
from torchvision import datasets, transforms
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--folder", type=Path, required=True)
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--save-steps", type=int, default=25)
parser.add_argument("--kill-at", type=int, help="step before whose forward pass the process gets --signal")
parser.add_argument("--signal", default="SIGKILL")
parser.add_argument("--kill-in-save", type=int, help="number of the checkpoint in whose writing it is killed")
parser.add_argument("--resume", action="store_true")
options = parser.parse_args()


class Photos(torch.utils.data.Dataset):
    """Photos with the usual random crop and flip."""

    def __init__(self) -> None:
        change = [transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.images = datasets.ImageFolder(options.data, transforms.Compose(change))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, object]:
        pixels, label = self.images[index]
        return {"pixel_values": pixels, "labels": label, "index": index}


class Watched(Trainer):
    """Writes a line a step: what went in, the random state, and the loss."""

    def training_step(self, model: nn.Module, inputs: dict[str, torch.Tensor], *arguments: object) -> torch.Tensor:
        step = self.state.global_step + 1
        if step == options.kill_at:
            os.kill(os.getpid(), getattr(signal, options.signal))
        row = {"step": step, "samples": inputs.pop("index").tolist(), "pixels": _digest(inputs["pixel_values"])}
        row["random"] = _digest(torch.get_rng_state())
        loss = super().training_step(model, inputs, *arguments)
        with (options.folder / "steps.jsonl").open("a") as file:
            file.write(json.dumps({**row, "loss": float(loss)}) + "\n")
        return loss


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:12]


def _kill_in_save(number: int) -> None:
    """Die after the model of a checkpoint was written and before the rest of it is."""
    written = 0
    save = Trainer._save_optimizer_and_scheduler

    def dying(self: Trainer, folder: str) -> None:
        nonlocal written
        written += 1
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, folder)

    Trainer._save_optimizer_and_scheduler = dying


options.folder.mkdir(parents=True, exist_ok=True)
if options.kill_in_save:
    _kill_in_save(options.kill_in_save)
set_seed(0)
data = Photos()
config = ViTConfig(
    image_size=32,
    patch_size=8,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    hidden_dropout_prob=0.1,
    num_labels=len(data.images.classes),
)
trainer = Watched(
    model=ViTForImageClassification(config),
    args=TrainingArguments(
        str(options.folder / "checkpoints"),
        per_device_train_batch_size=16,
        num_train_epochs=6,
        learning_rate=1e-3,
        save_steps=options.save_steps,
        save_total_limit=2,
        dataloader_num_workers=options.workers,
        remove_unused_columns=False,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    ),
    train_dataset=data,
)
trainer.train(resume_from_checkpoint=options.resume or None)
trainer.save_model(str(options.folder / "final"))

"""Training: the loop, and what it is given. Nothing here knows of plugins, images or files."""

from zoo.training.batches import Batch, Batches
from zoo.training.callbacks import Callback, TrainerState
from zoo.training.engine import Engine, Numerics, choose_device, choose_numerics
from zoo.training.losses import Criterion, CrossEntropy, balanced_class_weights
from zoo.training.trainer import FitResult, Front, Trainer, predict_logits

__all__ = [
    "Batch",
    "Batches",
    "Callback",
    "Criterion",
    "CrossEntropy",
    "Engine",
    "FitResult",
    "Front",
    "Numerics",
    "Trainer",
    "TrainerState",
    "balanced_class_weights",
    "choose_device",
    "choose_numerics",
    "predict_logits",
]

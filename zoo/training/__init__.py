"""Training: the loop, and what it is given. Nothing here knows of plugins, images or files."""

from zoo.training.batches import Batch, Batches
from zoo.training.callbacks import Callback, TrainerState
from zoo.training.checkpoint import Cadence, Checkpoints, Snapshot
from zoo.training.engine import Engine, Numerics, choose_device, choose_numerics
from zoo.training.inference import Front, predict_logits
from zoo.training.losses import Criterion, CrossEntropy, balanced_class_weights
from zoo.training.trainer import FitResult, Trainer

__all__ = [
    "Batch",
    "Batches",
    "Cadence",
    "Callback",
    "Checkpoints",
    "Criterion",
    "CrossEntropy",
    "Engine",
    "FitResult",
    "Front",
    "Numerics",
    "Snapshot",
    "Trainer",
    "TrainerState",
    "balanced_class_weights",
    "choose_device",
    "choose_numerics",
    "predict_logits",
]

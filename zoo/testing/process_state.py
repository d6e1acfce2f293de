"""What a plugin could change for everyone else in its process, as values to compare before and after."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from types import ModuleType

_LIBRARIES = ("torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "numpy", "numpy.random")


def settings() -> dict[str, object]:
    """Settings of the interpreter; imports no library."""
    found: dict[str, object] = {
        "the state of the module random": random.getstate(),
        "the current folder": Path.cwd(),
        "sys.path": list(sys.path),
        "the recursion limit": sys.getrecursionlimit(),
    }
    return found | {f"the environment variable {name}": value for name, value in os.environ.items()}


def library_settings() -> dict[str, object]:
    """Settings of torch and numpy."""
    import numpy as np
    import torch

    return {
        "torch.set_default_dtype": torch.get_default_dtype(),
        "torch.set_default_device": torch.get_default_device(),
        "torch.set_grad_enabled": torch.is_grad_enabled(),
        "torch.set_num_threads": torch.get_num_threads(),
        "torch.use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch.set_float32_matmul_precision": torch.get_float32_matmul_precision(),
        "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
        "torch.backends.cudnn.deterministic": torch.backends.cudnn.deterministic,
        "the state of numpy.random": str(np.random.get_state()),  # that very state
    }


def functions() -> dict[str, object]:
    """The public functions and classes of the standard library and of torch that are imported, by their full names."""
    return {
        f"{module.__name__}.{name}": value
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType) and _is_watched(module.__name__)
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_")
    }


def _is_watched(module: str) -> bool:
    return module in _LIBRARIES or module.partition(".")[0] in sys.stdlib_module_names

"""zoo: a plugin-based model zoo and transfer-learning toolkit for images, on PyTorch.

>>> import zoo
>>> run = zoo.finetune("photos", model="simple_cnn")
>>> zoo.load(run.artifact).predict("a.jpg")

Importing this package imports nothing heavy: each name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.catalogue import list_models
    from zoo.comparison import Comparison, compare
    from zoo.embedding import Embedding, embed
    from zoo.evaluation import Evaluation, evaluate
    from zoo.finetuning import finetune
    from zoo.models import Model, create_model, load
    from zoo.prediction import Prediction
    from zoo.proof import Verification, verify
    from zoo.recipes import Phase, Recipe
    from zoo.runs import Run
    from zoo.training.callbacks import Callback

__all__ = [
    "Callback",
    "Comparison",
    "Embedding",
    "Evaluation",
    "Model",
    "Phase",
    "Prediction",
    "Recipe",
    "Run",
    "Verification",
    "compare",
    "create_model",
    "embed",
    "evaluate",
    "finetune",
    "list_models",
    "load",
    "verify",
]

_HOMES = {
    "Callback": "zoo.training.callbacks",
    "Comparison": "zoo.comparison",
    "Embedding": "zoo.embedding",
    "Evaluation": "zoo.evaluation",
    "Model": "zoo.models",
    "Phase": "zoo.recipes",
    "Prediction": "zoo.prediction",
    "Recipe": "zoo.recipes",
    "Run": "zoo.runs",
    "Verification": "zoo.proof",
    "compare": "zoo.comparison",
    "create_model": "zoo.models",
    "embed": "zoo.embedding",
    "evaluate": "zoo.evaluation",
    "finetune": "zoo.finetuning",
    "list_models": "zoo.catalogue",
    "load": "zoo.models",
    "verify": "zoo.proof",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""zoo: a plugin-based model zoo and transfer-learning toolkit for images, on PyTorch.

>>> import zoo
>>> run = zoo.finetune("photos", model="simple_cnn")
>>> zoo.load(run.artifact).predict("a.jpg")

Importing this package imports nothing heavy: each name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.jobs.comparison import Comparison, compare
    from zoo.jobs.embedding import Embedding, embed
    from zoo.jobs.evaluation import Evaluation, evaluate
    from zoo.jobs.finetuning import finetune
    from zoo.jobs.lr_finding import lr_find
    from zoo.jobs.prediction import Prediction
    from zoo.jobs.proof import Verification, verify
    from zoo.models import Model, create_model, load
    from zoo.plugins.catalogue import list_models
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
    "lr_find",
    "verify",
]

_HOMES = {
    "Callback": "zoo.training.callbacks",
    "Comparison": "zoo.jobs.comparison",
    "Embedding": "zoo.jobs.embedding",
    "Evaluation": "zoo.jobs.evaluation",
    "Model": "zoo.models",
    "Phase": "zoo.recipes",
    "Prediction": "zoo.jobs.prediction",
    "Recipe": "zoo.recipes",
    "Run": "zoo.runs",
    "Verification": "zoo.jobs.proof",
    "compare": "zoo.jobs.comparison",
    "create_model": "zoo.models",
    "embed": "zoo.jobs.embedding",
    "evaluate": "zoo.jobs.evaluation",
    "finetune": "zoo.jobs.finetuning",
    "list_models": "zoo.plugins.catalogue",
    "load": "zoo.models",
    "lr_find": "zoo.jobs.lr_finding",
    "verify": "zoo.jobs.proof",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""timm's models as chains: features, pooling and classifier, and finer stages where a family's layers follow in order.

Every stage is a view: a shallow copy of the model, or of the module around its classifier, that keeps only the layers
the stage runs. So timm's own ``forward_features`` and ``forward_head`` do the computing, on the model's own layers, and
each stage has a training mode of its own.
"""

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, cast

from torch import Tensor, nn

from zoo.chain import Features, Stage
from zoo_timm.several import several_classifiers

_POOL_AFTER_CLASSIFIER = ("AttentionPool2d", "RotAttentionPool2d")
_FINAL_DROPOUTS = ("head_drop", "drop", "dropout", "head_dropout", "drop_head")


@dataclass(frozen=True)
class _Sequence:
    """The layers of a ``forward_features``, in order.

    Attributes:
        stem: Attributes called one after the other before the blocks.
        blocks: Attributes that are a stage each; with ``.*``, each of their children is one.
        end: Attributes called after the blocks.
    """

    stem: tuple[str, ...]
    blocks: tuple[str, ...]
    end: tuple[str, ...] = ()


# By the class that defines forward_features: classes that inherit it share the entry.
_SEQUENCES = {
    "ResNet": _Sequence(("conv1", "bn1", "act1", "maxpool"), ("layer1", "layer2", "layer3", "layer4")),
    "EfficientNet": _Sequence(("conv_stem", "bn1"), ("blocks.*",), ("conv_head", "bn2")),
    "MobileNetV3": _Sequence(("conv_stem", "bn1"), ("blocks.*",)),
    "ConvNeXt": _Sequence(("stem",), ("stages.*",), ("norm_pre",)),
    "VisionTransformer": _Sequence(("patch_embed", "_pos_embed", "patch_drop", "norm_pre"), ("blocks.*",), ("norm",)),
    "SwinTransformer": _Sequence(("patch_embed",), ("layers.*",), ("norm",)),
    "SwinTransformerV2": _Sequence(("patch_embed",), ("layers.*",), ("norm",)),
}


def stages(model: nn.Module) -> list[Stage]:
    """Cut a timm model.

    With a single classifier the stages are ``features``, or the finer ones of its family; ``pool``, where what follows
    them has parameters of its own (else it ends the last of them); and ``head``: the dropout before the classifier,
    and the classifier. With several classifiers, or one that is not the last step, ``head`` is all that follows the
    features.

    Args:
        model: From ``timm.create_model``, with at least one class.
    """
    path = classifier_path(model)
    if path is None:
        head = _head_children(model)
        features = _Method(_without(model, head), "forward_features")
        classifiers = _Method(_only(model, head), "forward_head")
        ends = several_classifiers(model)
        if ends is None:
            return [Stage("features", features), Stage("head", classifiers)]
        pool, unpool = ends
        return [Stage("features", nn.Sequential(features, pool)), Stage("head", nn.Sequential(unpool, classifiers))]
    head = {path.partition(".")[0], *_head_children(model)}
    *backbone, last = _feature_stages(model, head)
    pool = _Method(_pool_view(model, path, head), "forward_head")
    if _has_tensors(pool):
        backbone += [last, Stage("pool", pool)] if last.name != "pool" else [_joined(last, pool)]
    else:
        backbone.append(_joined(last, pool))
    classifier = model.get_submodule(path)
    if isinstance(classifier, nn.Conv2d):
        classifier = _ConvClassifier(classifier)
    dropout = _final_dropout(model, path)
    return [*backbone, Stage("head", classifier if dropout is None else nn.Sequential(dropout, classifier))]


def classifier_path(model: nn.Module) -> str | None:
    """Name of the module that maps pooled features to logits; None where several do or more comes after it."""
    path = cast(Any, model).pretrained_cfg.get("classifier")
    if not isinstance(path, str) or not isinstance(cast(Any, model).get_classifier(), nn.Module):
        return None
    parent = model.get_submodule(path.rpartition(".")[0])
    return None if type(parent).__name__ in _POOL_AFTER_CLASSIFIER else path


class _Method(nn.Module):
    """One method of a module as a stage."""

    def __init__(self, part: nn.Module, method: str) -> None:
        super().__init__()
        self.part = part
        self.method = method

    def forward(self, x: Features) -> Features:
        # Models with several streams pass lists on.
        result = getattr(self.part, self.method)(list(x) if isinstance(x, tuple) else x)
        return tuple(result) if isinstance(result, list) else cast(Tensor, result)


class _ConvClassifier(nn.Module):
    """A classifier that is a 1×1 convolution, for vectors."""

    def __init__(self, classifier: nn.Conv2d) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(x[:, :, None, None])
        return logits.flatten(1)


class _Steps(nn.Module):
    """Attributes of a module, layers or methods, called one after the other."""

    def __init__(self, part: nn.Module, steps: Sequence[str]) -> None:
        super().__init__()
        self.part = part
        self.steps = tuple(steps)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = getattr(self.part, step)(x)
        return x


def _feature_stages(model: nn.Module, head_names: Collection[str]) -> list[Stage]:
    features = _without(model, head_names)
    sequence = _SEQUENCES.get(_definer(type(model), "forward_features"))
    if sequence is None:
        return [Stage("features", _Method(features, "forward_features"))]
    blocks = dict(_blocks(model, sequence.blocks))
    roots = {name.partition(".")[0] for name in sequence.blocks}
    # What is named nowhere, for example a class token, belongs to the first stage.
    stem = _without(features, {*roots, *sequence.end})
    found = [Stage("stem", _Steps(stem, sequence.stem)), *(Stage(name, block) for name, block in blocks.items())]
    end = nn.Sequential(*(getattr(model, name) for name in sequence.end))
    return [*found, Stage("pool", end)] if _has_tensors(end) else [*found[:-1], _joined(found[-1], end)]


def _blocks(model: nn.Module, names: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    for name in names:
        root, _, each = name.partition(".")
        if not each:
            yield name, model.get_submodule(name)
        else:
            yield from (
                (f"{root.removesuffix('s')}{i}", block)
                for i, block in enumerate(model.get_submodule(root).children(), start=1)
            )


def _pool_view(model: nn.Module, path: str, head_names: Collection[str]) -> nn.Module:
    """What ``forward_head`` does before the last dropout and the classifier."""
    view = _only(model, head_names)
    parent = view
    *parents, last = path.split(".")
    for name in parents:
        parent._modules[name] = _copy(cast(nn.Module, parent._modules[name]))
        parent = cast(nn.Module, parent._modules[name])
    for name in (last, *_FINAL_DROPOUTS):
        if name in parent._modules:
            parent._modules[name] = nn.Identity()
    for module in (view, parent):
        if isinstance(getattr(module, "drop_rate", None), float):
            module.drop_rate = 0.0  # type: ignore[assignment]
    return view


def _final_dropout(model: nn.Module, path: str) -> nn.Module | None:
    """The dropout right before the classifier; None where there is none or it drops nothing."""
    parent = model.get_submodule(path.rpartition(".")[0])
    for name in _FINAL_DROPOUTS:
        layer = parent._modules.get(name)
        if isinstance(layer, nn.Dropout) and layer.p > 0:
            return layer
    rate = getattr(model, "drop_rate", 0.0)
    by_function = "drop_rate" in _names_used(type(model), "forward_head")
    return nn.Dropout(float(rate)) if by_function and rate else None


def _head_children(model: nn.Module) -> set[str]:
    """Layers and tensors of the model itself that ``forward_head`` uses and ``forward_features`` does not."""
    head = _names_used(type(model), "forward_head") - _names_used(type(model), "forward_features")
    return head & {*model._modules, *model._parameters, *model._buffers}


def _names_used(kind: type, method: str) -> set[str]:
    """Names of attributes that a method and the methods it calls mention."""
    seen: set[str] = set()
    left = [method]
    while left:
        function = getattr(kind, left.pop(), None)
        if not isinstance(function, FunctionType):
            continue
        names = set(_mentioned(function.__code__)) - seen - {"forward", "forward_features", "forward_head"}
        seen |= names
        left += names
    return seen


def _mentioned(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _mentioned(constant)


def _definer(kind: type, method: str) -> str:
    return next(base.__name__ for base in kind.__mro__ if method in vars(base))


def _joined(stage: Stage, module: nn.Module) -> Stage:
    return Stage(stage.name, nn.Sequential(stage.module, module))


def _only(model: nn.Module, names: Collection[str]) -> nn.Module:
    return _without(model, {*model._modules, *model._parameters, *model._buffers} - set(names))


def _without(model: nn.Module, names: Collection[str]) -> nn.Module:
    view = _copy(model)
    for table in (view._modules, view._parameters, view._buffers):
        for name in names:
            table.pop(name, None)
    return view


def _copy(module: nn.Module) -> nn.Module:
    """A module with the same layers and tensors and tables of its own."""
    view = copy.copy(module)
    view._modules = dict(module._modules)
    view._parameters = dict(module._parameters)
    view._buffers = dict(module._buffers)
    return view


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())

"""A model as a chain of stages, and what freezing the first of them means.

The chain is a view of a model: it owns nothing, is made anew after a load or a copy, and is never stored.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.errors import HookError, OptionError, did_you_mean

Features = Tensor | tuple[Tensor, ...]
# Blocks of the transformer for which the usual values of layer decay, 0.65-0.85, were found (Bao et al. 2021,
# arXiv:2106.08254): relative depth times this many is the exponent, whatever the number of stages.
_LAYER_DECAY_DEPTH = 12


@dataclass(frozen=True)
class Stage:
    """One link of the chain.

    Attributes:
        name: Unique in its chain; the last stage's is ``"head"``.
        module: Maps a tensor, or a tuple of tensors with the batch first, to the same.
        auxiliary: A second classifier fed with this stage's output while the stage trains; logits as the head's.
        auxiliary_weight: Its loss's factor in the total loss.
    """

    name: str
    module: nn.Module
    auxiliary: nn.Module | None = None
    auxiliary_weight: float = 0.0


@dataclass(frozen=True)
class Cut:
    """Where a chain is cut for a phase of training.

    Attributes:
        frozen_stages: The first so many stages give features that never change.
        trained: Names of the model's parameters that train. Everything else is frozen.
        partial: True for a model that is no chain: only its head's parameters train, all of it in eval mode.
    """

    frozen_stages: int
    trained: frozenset[str]
    partial: bool = False


class StageSequence(nn.Module):
    """Consecutive stages as one module.

    It maps features to features, or to logits at the end of the chain. While auxiliary heads among its stages are in
    training mode, it returns ``(logits, auxiliary logits, …)`` in the order of :attr:`auxiliary_weights`.

    Attributes:
        recompute: Keep no activations inside of a stage: the backward pass runs each stage forward once more.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.recompute = False
        self.stages = nn.ModuleList(stage.module for stage in stages)
        self.auxiliaries = nn.ModuleDict(
            {str(i): stage.auxiliary for i, stage in enumerate(stages) if stage.auxiliary is not None}
        )
        self._auxiliary_weights = {str(i): stage.auxiliary_weight for i, stage in enumerate(stages)}

    @property
    def auxiliary_weights(self) -> tuple[float, ...]:
        """The loss factors of the auxiliary heads that are in training mode."""
        return tuple(self._auxiliary_weights[i] for i, head in self.auxiliaries.items() if head.training)

    def forward(self, x: Features) -> Features:
        """Apply the stages in order."""
        auxiliary_logits: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            x = checkpoint(stage, x, use_reentrant=False) if self.recompute and torch.is_grad_enabled() else stage(x)
            # The head's own mode, not this view's: Chain.freeze sets modes on the layers, which a view made of them
            # earlier does not hear of.
            if str(i) in self.auxiliaries and self.auxiliaries[str(i)].training:
                auxiliary_logits.append(self.auxiliaries[str(i)](x))
        if not auxiliary_logits:
            return x
        assert isinstance(x, Tensor), "auxiliary heads need the rest of the chain"
        return (x, *auxiliary_logits)


class Chain(Sequence[Stage]):
    """The stages of one model, in order.

    Args:
        model: The model whose parameters and buffers the stages hold.
        stages: From input to output; the last is named ``"head"``.
        head_parameters: For a model that is no chain, which is one stage: the parameters that ``train = "head"``
            trains.

    Raises:
        HookError: The stages do not own every parameter and buffer of the model exactly once, or names repeat.
    """

    def __init__(self, model: nn.Module, stages: Sequence[Stage], *, head_parameters: Sequence[str] = ()) -> None:
        self.model = model
        self._stages = tuple(stages)
        self._head_parameters = tuple(head_parameters)
        self._owner = _check_ownership(model, self._stages)

    def __len__(self) -> int:
        return len(self._stages)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # int -> Stage, slice -> tuple of them
        return self._stages[index]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stages, in order."""
        return tuple(stage.name for stage in self._stages)

    def part(self, start: int = 0, stop: int | None = None) -> StageSequence:
        """Stages ``start`` to ``stop`` as one module, holding the model's own layers."""
        return StageSequence(self._stages[start:stop])

    def cut(self, train: str) -> Cut:
        """Where to cut so that ``train`` trains.

        Args:
            train: ``"all"``, ``"head"``, ``"last K"``, or a stage's name, which trains it and all after it.

        Raises:
            OptionError: There is no such stage, or the model is no chain and cannot be cut there.
        """
        if train == "head" and self._head_parameters:
            return Cut(0, frozenset(self._head_parameters), partial=True)
        frozen = self._frozen_stages(train)
        return Cut(frozen, frozenset(name for name, stage in self._parameter_owners() if stage >= frozen))

    def freeze(self, cut: Cut, *, batch_norm: str = "train") -> None:
        """Put the model in the state that a phase trains in.

        What is frozen gets no gradients and is in eval mode, so BatchNorm statistics and Dropout rest too. With
        ``batch_norm="eval"`` the BatchNorm layers that train keep their statistics as well.
        """
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in cut.trained)
            parameter.grad = None
        for i, stage in enumerate(self._stages):
            trains = i >= cut.frozen_stages and not cut.partial
            for module in (stage.module, stage.auxiliary):
                if module is not None:
                    module.train(trains)
                    if batch_norm == "eval":
                        _batch_norm_to_eval(module)

    def digests(self, cut: Cut) -> dict[str, str]:
        """SHA-256 of every frozen parameter and buffer by name: of its type, shape and bytes."""
        return {name: tensor_digest(tensor) for name, tensor in sorted(self.frozen_tensors(cut).items())}

    def digest(self, cut: Cut) -> str:
        """One SHA-256 over :meth:`digests`: it changes when anything frozen changes by one bit."""
        return combined_digest(self.digests(cut))

    def frozen_tensors(self, cut: Cut) -> dict[str, Tensor]:
        """The model's parameters and buffers that the cut freezes, by name."""
        frozen = {n: p.detach() for n, p in self.model.named_parameters() if n not in cut.trained}
        for name, buffer in self.model.named_buffers():
            if name in self._owner and (cut.partial or self._owner[name] < cut.frozen_stages):
                frozen[name] = buffer
        return frozen

    def parameter_groups(
        self, cut: Cut, *, lr: float, weight_decay: float, layer_decay: float = 1.0
    ) -> list[dict[str, object]]:
        """Groups for an optimizer: what trains, by stage, with weight decay kept off biases and norms.

        Args:
            cut: What trains.
            lr: Learning rate of the head.
            weight_decay: Decay of tensors with two or more dimensions.
            layer_decay: Factor a block of a 12-block model; a stage at relative depth ``d`` learns at
                ``lr * layer_decay ** (12 * (1 - d))``.

        Returns:
            Dictionaries with ``params``, ``lr``, ``weight_decay`` and ``name``, from input to output.
        """
        groups: dict[tuple[int, float, bool], list[nn.Parameter]] = {}
        parameters = dict(self.model.named_parameters())
        for name, stage in self._parameter_owners():
            if name in cut.trained:
                parameter = parameters[name]
                key = (stage, self._relative_depth(name, stage), parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        return [
            {
                "params": members,
                "lr": lr * layer_decay ** (_LAYER_DECAY_DEPTH * (1 - depth)),
                "weight_decay": weight_decay if decays else 0.0,
                "name": f"{self._stages[stage].name}/{'weights' if decays else 'biases and norms'}",
            }
            for (stage, depth, decays), members in sorted(groups.items(), key=lambda item: item[0])
        ]

    def _relative_depth(self, parameter: str, stage: int) -> float:
        if self._head_parameters:  # one stage, of which the head is a part
            return float(parameter in self._head_parameters)
        return stage / (len(self) - 1) if len(self) > 1 else 1.0

    def _frozen_stages(self, train: str) -> int:
        if train == "all":
            return 0
        words = train.split()
        if len(words) == 2 and words[0] == "last" and words[1].isdigit() and int(words[1]) >= 1:
            frozen = max(0, len(self) - int(words[1]))
        elif train in self.names:
            frozen = self.names.index(train)
        else:
            raise OptionError(
                f"train = {train!r} is none of 'all', 'head', 'last K' or a stage of this model: "
                f"{', '.join(self.names)}.{did_you_mean(train, self.names)}"
            )
        if self._head_parameters and frozen == 0:
            raise OptionError(
                f"this model is no chain of stages: train = {train!r} is not possible, 'head' and 'all' are."
            )
        return frozen

    def _parameter_owners(self) -> list[tuple[str, int]]:
        return [(name, self._owner[name]) for name, _ in self.model.named_parameters()]


def combined_digest(digests: Mapping[str, str]) -> str:
    """One SHA-256 for the digests of several tensors, whatever their order."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def batch_norm_layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a module that keep batch statistics."""
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's type, shape and bytes."""
    array = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{array.dtype}\0{tuple(array.shape)}\0".encode())
    digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _batch_norm_to_eval(module: nn.Module) -> None:
    for layer in batch_norm_layers(module):
        layer.eval()


def _check_ownership(model: nn.Module, stages: Sequence[Stage]) -> Mapping[str, int]:
    """The stage of every parameter and buffer, by name: moving a model to a GPU makes new buffers."""
    names = [stage.name for stage in stages]
    if not names or names[-1] != "head" or len(set(names)) != len(names):
        raise HookError(f"zoo_stages returned stages named {names}: names must differ and the last must be 'head'.")
    owner: dict[int, int] = {}
    dropouts: dict[int, str] = {}
    tensor_names = {id(t): n for n, t in [*model.named_parameters(), *model.named_buffers()]}
    for i, stage in enumerate(stages):
        for layer in _dropouts(stage):
            if dropouts.setdefault(id(layer), stage.name) != stage.name:
                raise HookError(
                    f"zoo_stages puts one dropout layer into two stages, {dropouts[id(layer)]!r} and {stage.name!r}: "
                    f"with the first frozen it would have to rest and to drop at once; make it two layers."
                )
        for tensor in _tensors(stage):
            first = owner.setdefault(id(tensor), i)
            if first != i:
                name = tensor_names.get(id(tensor), "a tensor")
                raise HookError(f"zoo_stages puts {name} into two stages, {names[first]!r} and {stage.name!r}.")
            if id(tensor) not in tensor_names:
                raise HookError(f"zoo_stages put a tensor into stage {stage.name!r} that is not the model's own.")
    missing = [name for key, name in tensor_names.items() if key not in owner]
    if missing:
        raise HookError(f"zoo_stages left out {len(missing)} of the model's tensors, for example {missing[0]}.")
    owners = {name: owner[key] for key, name in tensor_names.items()}
    _check_memory(model, owners, names)
    return owners


def _check_memory(model: nn.Module, owners: Mapping[str, int], stages: Sequence[str]) -> None:
    """Refuse tensors of two stages that are views of the same memory: training the second would change the first."""
    places: dict[int, list[tuple[int, int, str]]] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta or nn.parameter.is_lazy(tensor) or tensor.layout is not torch.strided or not tensor.numel():
            continue
        last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
        start, end = tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
        others = places.setdefault(tensor.untyped_storage().data_ptr(), [])
        for other_start, other_end, other in others:
            if owners[other] != owners[name] and start < other_end and other_start < end:
                raise HookError(
                    f"zoo_stages puts {other} and {name} into two stages, {stages[owners[other]]!r} and "
                    f"{stages[owners[name]]!r}, and they are one piece of memory: give each tensor its own."
                )
        others.append((start, end, name))


def _dropouts(stage: Stage) -> list[nn.Module]:
    return [
        layer
        for module in (stage.module, stage.auxiliary)
        if module is not None
        for layer in module.modules()
        if isinstance(layer, nn.modules.dropout._DropoutNd)
    ]


def _tensors(stage: Stage) -> Iterator[Tensor]:
    seen: set[int] = set()
    for module in (stage.module, stage.auxiliary):
        if module is not None:
            for tensor in [*module.parameters(), *module.buffers()]:
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield tensor

"""Fitting the tensors of a file to a model that differs from the one they were saved from.

What may differ is known: the number and names of the classes, and the channels of the input. Everything else has to
agree, tensor by tensor.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.state_files import nonfinite_kind

_LINES_SHOWN = 10
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file. Names are those of the model's ``state_dict``.

    Attributes:
        loaded: How many of the model's tensors come from the file, adapted ones included.
        initialised: Tensors with values of their own, at least in some rows: nothing in the file is for them.
        adapted: Tensors changed on the way: first convolutions for other channels, rows picked by class name.
        dropped: Tensors of the file that were left out because they are for other classes.
        carried_classes: How many classes kept their rows, found by name in a head for other classes.
    """

    loaded: int = 0
    initialised: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    carried_classes: int = 0


class Fitting:
    """Tensors of a file on their way into a model."""

    def __init__(self, model: nn.Module, found: Mapping[str, Tensor]) -> None:
        self.expected = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        self._found = dict(found)
        self._file_names = tuple(found)
        self._initialised: list[str] = []
        self._adapted: list[str] = []
        self._dropped: list[str] = []
        # Class tensors that keep some rows: the axis, and pairs of (row in the model, row in the file).
        self._rows: dict[str, tuple[int, list[tuple[int, int]]]] = {}
        # BatchNorm of checkpoints from before PyTorch 0.4.1 has no counter; zero is what it starts with.
        for name, tensor in self.expected.items():
            if name.endswith(".num_batches_tracked"):
                self._found.setdefault(name, tensor)

    def adapt_channels(self, in_channels: int) -> None:
        """Fit convolution kernels ``(out, in, height, width)`` that are made for another number of channels."""
        for name, expected in self.expected.items():
            found = self._found.get(name)
            if (
                found is not None
                and found.ndim == expected.ndim == 4
                and found.is_floating_point()
                and found.shape[1] != expected.shape[1] == in_channels
                and found.shape[1] in _CHANNELS
                and found.shape[0] == expected.shape[0]
                and found.shape[2:] == expected.shape[2:]
            ):
                self._found[name] = _to_channels(found.float(), in_channels)
                self._adapted.append(name)

    def misfits(self) -> list[str]:
        """One line for each tensor that does not fit."""
        lines = [
            line
            for name, expected in self.expected.items()
            if name not in self._initialised and name not in self._rows
            if (line := self._misfit(name, expected))
        ]
        return lines + [f"{name}: not part of the model" for name in self._found if name not in self.expected]

    def refuse_misfits(self, architecture: str) -> None:
        """Raise a WeightsError for tensors that do not fit."""
        lines = self.misfits()
        if not lines:
            return
        more = [f"… and {len(lines) - _LINES_SHOWN} more"] if len(lines) > _LINES_SHOWN else []
        raise WeightsError(
            f"the weights do not fit {architecture}: {len(lines)} tensors disagree, of {len(self.expected)} in the "
            f"model and {len(self._file_names)} in the file.\n  "
            + "\n  ".join(lines[:_LINES_SHOWN] + more)
            + "\nAre they for this architecture, with these options?"
        )

    def fit_head(
        self,
        part: Sequence[str],
        class_axes: Mapping[str, int],
        classes: Sequence[str],
        state_classes: Sequence[str],
    ) -> None:
        """Fit a head, or an auxiliary one, to other classes.

        Args:
            part: Names of its tensors.
            class_axes: For each tensor with one row a class, the axis of the rows.
            classes: As for :func:`build`.
            state_classes: As for :func:`build`.
        """
        per_class = [name for name in part if name in class_axes]
        if not per_class:
            return
        present = [name for name in part if name in self._found]
        if not any(name in self._found for name in per_class):
            missing = [name for name in part if name not in self._found]
            self._initialised += missing
            return
        counts = {
            self._found[name].shape[class_axes[name]]
            for name in per_class
            if name in self._found and self._fits_but_for(name, class_axes[name])
        }
        hidden_fit = all(self._fits_but_for(name, class_axes.get(name)) for name in part if name in self._found)
        if len(present) < len(part) or (hidden_fit and len(counts) != 1):
            return  # left to refuse_misfits
        if not hidden_fit:
            self._initialised += part
            self._dropped += present
            return
        (count,) = counts
        axis_size = {self.expected[name].shape[class_axes[name]] for name in per_class}
        named = len(state_classes) == count and {len(classes)} == axis_size
        if {count} == axis_size and not (named and differ_by_name(classes, state_classes)):
            return
        pairs = _rows_by_name(classes, state_classes) if named else []
        for name in per_class:
            if pairs:
                self._rows[name] = (class_axes[name], pairs)
                self._adapted.append(name)
            else:
                self._dropped.append(name)
            if len(pairs) < len(classes) or not pairs:
                self._initialised.append(name)

    def tensors(
        self, fresh: Callable[[Collection[torch.Size]], Mapping[str, Tensor]], *, check_values: bool = True
    ) -> dict[str, Tensor]:
        """The model's tensors: those of the file, and fresh values where it has none.

        Args:
            fresh: Gives a model's tensors, with initial values at least where they have one of the shapes given.
            check_values: Refuse values that are not finite.

        Raises:
            WeightsError: A tensor has values that are not finite.
        """
        values = fresh({self.expected[name].shape for name in self._initialised}) if self._initialised else {}
        final: dict[str, Tensor] = {}
        addresses: set[int] = set()
        for name, expected in self.expected.items():
            if name in self._initialised and name not in self._rows:
                final[name] = values[name]
                continue
            tensor = self._found[name].detach().to(expected.dtype).contiguous()
            if check_values and (kind := nonfinite_kind(tensor)):
                raise WeightsError(f"the weights are damaged: {name} has {kind} values.")
            if name in self._rows:
                axis, pairs = self._rows[name]
                tensor = _pick_rows(values.get(name, expected), tensor, axis, pairs)
            if tensor.data_ptr() in addresses:
                tensor = tensor.clone()  # two names for one memory in the file are two parameters here
            addresses.add(tensor.data_ptr())
            final[name] = tensor
        return final

    def report(self) -> LoadReport:
        """What was done."""
        fresh = [name for name in self._initialised if name not in self._rows]
        return LoadReport(
            loaded=len(self.expected) - len(fresh),
            initialised=tuple(self._initialised),
            adapted=tuple(self._adapted),
            dropped=tuple(self._dropped),
            carried_classes=max((len(pairs) for _, pairs in self._rows.values()), default=0),
        )

    def _misfit(self, name: str, expected: Tensor) -> str:
        found = self._found.get(name)
        if found is None:
            return f"{name}: expected {_described(expected)}, found nothing"
        kinds_differ = expected.is_floating_point() != found.is_floating_point()
        if found.shape != expected.shape or kinds_differ or found.is_complex() != expected.is_complex():
            return f"{name}: expected {_described(expected)}, found {_described(found)}"
        return ""

    def _fits_but_for(self, name: str, axis: int | None) -> bool:
        found, expected = list(self._found[name].shape), list(self.expected[name].shape)
        if axis is not None and len(found) == len(expected):
            found[axis] = expected[axis]
        return found == expected


def differ_by_name(classes: Sequence[str], state_classes: Sequence[str]) -> bool:
    """Whether two lists of class names are both known and not the same."""
    return bool(classes) and bool(state_classes) and tuple(classes) != tuple(state_classes)


def _rows_by_name(classes: Sequence[str], state_classes: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (row in the model, row in the file) of the classes whose name both lists have exactly once."""
    if len(set(classes)) != len(classes) or len(set(state_classes)) != len(state_classes):
        return []
    rows = {name: row for row, name in enumerate(state_classes)}
    return [(row, rows[name]) for row, name in enumerate(classes) if name in rows]


def _pick_rows(base: Tensor, found: Tensor, axis: int, pairs: Sequence[tuple[int, int]]) -> Tensor:
    to_rows, from_rows = (torch.tensor(rows) for rows in zip(*pairs, strict=True))
    return base.detach().clone().index_copy_(axis, to_rows, found.index_select(axis, from_rows))


def _to_channels(kernel: Tensor, channels: int) -> Tensor:
    """A kernel ``(out, in, height, width)`` for 1, 3 or 4 channels, by way of RGB."""
    rgb = kernel.expand(-1, 3, -1, -1) / 3 if kernel.shape[1] == 1 else kernel[:, :3]
    if channels == 1:
        return rgb.sum(dim=1, keepdim=True)
    return rgb if channels == 3 else torch.cat([rgb, rgb.mean(dim=1, keepdim=True)], dim=1)


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"

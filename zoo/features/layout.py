"""What one row of features holds, and its way to bytes and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.chain import Features

_TYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
}


@dataclass(frozen=True)
class Layout:
    """The tensors that make up the features of one image.

    Attributes:
        shapes: Of each tensor, without the batch.
        types: Of each tensor, for example ``"bfloat16"``.
        is_tuple: Whether the features are a tuple, even of one tensor.
    """

    shapes: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]
    is_tuple: bool = False

    @classmethod
    def of(cls, features: Features) -> "Layout":
        """The layout of a batch of features.

        Raises:
            ValueError: A tensor has a type that is not kept.
        """
        tensors = features if isinstance(features, tuple) else (features,)
        types = tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
        if unknown := set(types) - set(_TYPES):
            raise ValueError(f"features of type {', '.join(sorted(unknown))} are not kept")
        return cls(tuple(tuple(tensor.shape[1:]) for tensor in tensors), types, isinstance(features, tuple))

    @property
    def row_bytes(self) -> int:
        """Bytes of one image's features."""
        return sum(self._sizes())

    def pack(self, features: Features) -> NDArray[np.uint8]:
        """The bytes of a batch of features, uint8 ``(N, row_bytes)``."""
        tensors = features if isinstance(features, tuple) else (features,)
        columns = [tensor.detach().cpu().contiguous().view(len(tensor), -1).view(torch.uint8) for tensor in tensors]
        rows: NDArray[np.uint8] = (columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)).numpy()
        return rows

    def unpack(self, rows: NDArray[np.uint8]) -> Features:
        """The features that :meth:`pack` made bytes of; a single tensor shares their memory."""
        joined = torch.from_numpy(rows)
        tensors: list[Tensor] = []
        start = 0
        for shape, kind, size in zip(self.shapes, self.types, self._sizes(), strict=True):
            column = joined[:, start : start + size].contiguous()
            tensors.append(column.view(_TYPES[kind]).view(len(rows), *shape))
            start += size
        return tuple(tensors) if self.is_tuple else tensors[0]

    def as_data(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {"shapes": [list(s) for s in self.shapes], "types": list(self.types), "is_tuple": self.is_tuple}

    @classmethod
    def from_data(cls, data: object) -> "Layout":
        """The reverse of :meth:`as_data`.

        Raises:
            ValueError: The values are not those of a layout.
        """
        if not isinstance(data, dict):
            raise ValueError("not a table")
        shapes, types = data.get("shapes"), data.get("types")
        if (
            not isinstance(shapes, list)
            or not isinstance(types, list)
            or not types
            or len(shapes) != len(types)
            or not set(types) <= set(_TYPES)
            or not all(_is_shape(shape) for shape in shapes)
        ):
            raise ValueError("not the layout of features")
        return cls(tuple(tuple(shape) for shape in shapes), tuple(types), data.get("is_tuple") is True)

    def _sizes(self) -> Sequence[int]:
        return [prod(shape) * _TYPES[kind].itemsize for shape, kind in zip(self.shapes, self.types, strict=True)]


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(isinstance(size, int) and size >= 1 for size in shape)

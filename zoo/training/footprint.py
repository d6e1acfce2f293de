"""How much memory a forward pass takes."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.chain import Features


def peak_bytes(module: nn.Module, inputs: Features) -> int:
    """Most bytes that a module's values, its input and its live activations take together in one forward pass.

    Counted tensor by tensor and not asked of the allocator, so it does not depend on what ran before; what kernels take
    for themselves is left out.

    Args:
        module: In eval mode.
        inputs: On its device.
    """
    given = [*module.parameters(), *module.buffers(), *(inputs if isinstance(inputs, tuple) else (inputs,))]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in given}
    counting = _Counting(set(storages))
    with torch.inference_mode(), counting:
        module(inputs)
    return sum(storages.values()) + counting.peak


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the memory of new tensors, each until it is gone."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = known
        self._live: dict[int, int] = {}
        self._owners: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        self.peak = max(self.peak, sum(self._live.values()))
        return outputs

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if not address or address in self._known:
            return
        self._live[address] = storage.nbytes()
        self._owners[address] = self._owners.get(address, 0) + 1
        weakref.finalize(tensor, self._drop, address)

    def _drop(self, address: int) -> None:
        self._owners[address] -= 1
        if not self._owners[address]:
            self._live.pop(address, None)

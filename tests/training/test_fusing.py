"""Fused convolutions compute what the layers one by one do, whoever else reads a tensor."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.training.fusing import can_fuse, fuse_convolutions

pytestmark = pytest.mark.skipif(not can_fuse("float32"), reason="this build of torch has no oneDNN")


class _Two(nn.Module):
    """Two convolutions that keep the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)


class _Residual(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return functional.relu(self.second(functional.relu(x)) + x)


class _SummandReadLater(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return (self.second(x * 2) + x) * x


class _SummandConvolvedLater(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        total = self.second(self.second(x)) + x
        return total + self.first(x)


class _ActivationsAreAdded(_Two):
    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.first(x)) + torch.relu(self.second(x))


class _SumIsActivatedOtherwise(_Two):
    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.first(x) + self.second(x))  # type: ignore[no-any-return]


class _SummandIsConvolved(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x) + x


class _Doubled(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return functional.relu(self.second(functional.relu(x + x)))


class _SummandIsTheInput(_Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x


class _SummandIsViewed(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        rows = x.flatten(1)
        return (self.second(x * 2) + x).flatten(1) * rows


class _InputOverwrittenBetween(_Two):
    """The second sum's convolution reads what the first sum takes as its memory."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.first(x), self.second(x)
        late = self.second(first)
        summed = self.first(second * 2) + first
        return late + summed


class _SummandIsAParameter(_Two):
    def __init__(self) -> None:
        super().__init__()
        self.everywhere = nn.Parameter(torch.randn(1, 3, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + self.everywhere


class _SummandIsOneForAll(_SummandIsAParameter):
    """A convolution of what is the same for all images, which has no memory for a sum of theirs."""

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.everywhere) + self.first(x)


class _ReadTwice(_Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(functional.relu(x)) + functional.silu(x)


@pytest.mark.parametrize(
    ("kind", "joined"),
    [
        (_Residual, 0),
        (_SummandReadLater, 0),
        (_SummandConvolvedLater, 0),
        (_ActivationsAreAdded, 2),
        (_SumIsActivatedOtherwise, 1),
        (_SummandIsConvolved, 0),
        (_Doubled, 1),
        (_SummandIsTheInput, 0),
        (_SummandIsViewed, 0),
        (_InputOverwrittenBetween, 1),
        (_SummandIsAParameter, 0),
        (_SummandIsOneForAll, 0),
        (_ReadTwice, 0),
    ],
)
def test_no_tensor_that_something_else_reads_is_overwritten(kind: type[nn.Module], joined: int) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    images = torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        expected, before = module(images), images.clone()
        fused, found = fuse_convolutions(module, images[:2])
        torch.testing.assert_close(fused(images), expected, rtol=1e-5, atol=1e-6)
    assert found == joined
    assert torch.equal(images, before)

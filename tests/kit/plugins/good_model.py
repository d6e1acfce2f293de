"""The network of the good plugin: two blocks, an auxiliary head on the first, and a head."""

from torch import nn

from zoo.chain import Stage


class Net(nn.Module):
    def __init__(self, num_classes, in_channels, *, width=4, dropout=0.1):
        super().__init__()
        self.block1 = block(in_channels, width)
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(width, num_classes))
        self.block2 = block(width, 2 * width)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, num_classes))

    def forward(self, x):
        return self.head(self.pool(self.block2(self.block1(x))))


def block(in_channels, channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)
    )


def stages(model):
    return [
        Stage("block1", model.block1, model.aux, 0.3),
        Stage("block2", nn.Sequential(model.block2, model.pool)),
        Stage("head", model.head),
    ]


def put_before(layer, sequence):
    """A layer in front of a sequence, as the sequence's own first."""
    return nn.Sequential(layer, *sequence)


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)

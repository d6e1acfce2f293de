from zoo.architecture import Architecture
from zoo.hookspecs import hookimpl

ZOO_HOOK_API = 1


@hookimpl
def zoo_architectures():
    return [Architecture(name="tiny", family="lab")]


@hookimpl
def zoo_build_model(num_classes):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

"""Every error that zoo raises on purpose.

::

    ZooError                        exit code 1
    ├── UsageError                  2   the request itself is wrong
    │   ├── UnknownNameError            no architecture, preset or plugin of that name
    │   ├── OptionError                 an option that is unknown or out of range
    │   ├── RegistryError               a registry.toml that cannot be used
    │   ├── RunExistsError              the output folder is taken
    │   └── MissingExtraError           an optional dependency is not installed
    ├── DataError                   3   images, manifests and folders
    │   └── ImageError                  one image that cannot be read
    ├── PluginError                 4   an architecture plugin failed
    │   ├── BrokenPluginError           it cannot be imported or breaks the contract
    │   ├── IncompatiblePluginError     it was written for another hook API or is not the pinned version
    │   ├── PluginConflictError         two distributions claim one plugin name
    │   └── HookError                   one of its hooks raised or returned nonsense
    ├── WeightsError                5   weights that cannot be had or do not fit
    │   ├── UnknownWeightsError         no such tag
    │   ├── DownloadError               the download failed or has the wrong content
    │   ├── ArtifactError               a file that is not a usable artifact
    │   └── VerifyError                 an artifact that is not what it claims to be
    └── TrainingError               6   training could not go on
        ├── FreezeError                 something frozen changed
        ├── CheckpointError             there are checkpoints and none can be used
        └── StorageError                a file could not be written

The command line prints the message and leaves with ``exit_code``; Python callers catch the classes.
"""

from collections.abc import Iterable


class ZooError(Exception):
    """The base of all errors raised by zoo on purpose."""

    exit_code = 1


class UsageError(ZooError):
    """What was asked cannot be done as asked."""

    exit_code = 2


class UnknownNameError(UsageError):
    """No architecture, preset or plugin has the name; close matches are part of the message."""


class OptionError(UsageError):
    """An option is unknown, of the wrong type or out of its range."""


class RegistryError(UsageError):
    """A registry.toml cannot be read, names an unknown key or breaks a rule."""


class RunExistsError(UsageError):
    """The output folder or file exists already."""


class MissingExtraError(UsageError):
    """An optional dependency is needed and not installed."""


class DataError(ZooError):
    """The images, the manifest or the folder cannot be used."""

    exit_code = 3


class ImageError(DataError):
    """One image cannot be read; the message gives the reason without the path."""


class PluginError(ZooError):
    """An architecture plugin failed."""

    exit_code = 4


class BrokenPluginError(PluginError):
    """A plugin cannot be imported or does not keep the hook contract."""


class IncompatiblePluginError(PluginError):
    """A plugin was written for another hook API, or its version is not the one pinned."""


class PluginConflictError(PluginError):
    """Two distributions claim the same plugin name."""


class HookError(PluginError):
    """A hook raised, or returned something that its specification does not allow."""


class WeightsError(ZooError):
    """Weights are missing, damaged or do not fit the model."""

    exit_code = 5


class UnknownWeightsError(WeightsError):
    """The architecture has no weights of that tag."""


class DownloadError(WeightsError):
    """A download failed, or what arrived is not what was published."""


class ArtifactError(WeightsError):
    """A file is not a safetensors file, or not one that zoo wrote."""


class VerifyError(WeightsError):
    """An artifact does not give the results recorded in it."""


class TrainingError(ZooError):
    """Training could not be carried out or finished."""

    exit_code = 6


class FreezeError(TrainingError):
    """A parameter or buffer that was declared frozen changed."""


class CheckpointError(TrainingError):
    """A run has checkpoints, and all are damaged or do not fit it."""


class StorageError(TrainingError):
    """A file could not be written; the message names the path and the reason."""


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """A sentence that offers the names closest to ``asked``, or an empty string.

    Args:
        asked: What the user wrote.
        known: The names that exist.

    Returns:
        For example ``" Did you mean 'resnet50'?"``, with its leading space.
    """
    from difflib import get_close_matches

    by_lower_case = {name.lower(): name for name in known}
    matches = get_close_matches(asked.lower(), by_lower_case, n=3, cutoff=0.6)
    if not matches:
        return ""
    return " Did you mean " + " or ".join(repr(by_lower_case[match]) for match in matches) + "?"

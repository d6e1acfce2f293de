"""Import one plugin, check that it keeps the contract, and call its hooks.

Whatever a plugin does wrong becomes one of zoo's own errors that names the plugin, its distribution and version, and
the hook. A plugin is code and can do what it likes to this process: this is about mistakes, no sandbox.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from zoo import defaults, hookspecs
from zoo.decoding import ascii_safe, shown
from zoo.errors import (
    BrokenPluginError,
    HookError,
    IncompatiblePluginError,
    MissingExtraError,
    OptionError,
    PluginError,
    WeightsError,
    did_you_mean,
)
from zoo.hookspecs import HOOK_API, PROJECT
from zoo.names import canonical
from zoo.plugins.facts import FactsError, check_architectures
from zoo.plugins.interrupts import watched_signals
from zoo.plugins.records import Plugin, PluginState

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.architecture import Architecture, OptionValue
    from zoo.chain import Chain, Stage
    from zoo.training.callbacks import Callback, RunInfo

_OF_ARCHITECTURES = ("zoo_architectures", "zoo_build_model")
_OF_RUNS = "zoo_callbacks"
_HEAVY = ("torch", "torchvision", "timm")
_SLOW_S = 2.0
# What zoo.defaults asks the model for.
_INSTEAD = {"zoo_export_state": "the model's state_dict()"}


class PluginHooks:
    """The hooks of one plugin, typed; made by :func:`load_plugin`.

    A hook that raises, or returns what its specification does not allow, gives a :class:`~zoo.errors.HookError` that
    names the plugin, its distribution and version, and the hook. Three kinds of error pass as they are, for they are
    about the request and not the plugin: :class:`~zoo.errors.OptionError`, :class:`~zoo.errors.WeightsError` and
    :class:`~zoo.errors.MissingExtraError`.
    What a hook prints goes to stderr.

    Attributes:
        record: The plugin.
        import_notes: What was noticed while it was imported; also among the record's notes.
    """

    def __init__(
        self, record: Plugin, manager: pluggy.PluginManager, plugin: object, *, import_notes: tuple[str, ...] = ()
    ) -> None:
        self.record = record
        self.import_notes = import_notes
        self._manager = manager
        self._plugin = plugin

    def architectures(self) -> tuple[Architecture, ...]:
        """The plugin's facts, checked, each with :attr:`Architecture.plugin` filled in."""
        returned = self._call("zoo_architectures")
        with self._blamed("zoo_architectures: looking at what it returned"):
            try:
                return check_architectures(returned, plugin=self.record.name)
            except FactsError as error:
                raise HookError(f"{self.record.label}: zoo_architectures: {error}.") from error

    def build_model(
        self, architecture: Architecture, *, num_classes: int, in_channels: int, options: Mapping[str, OptionValue]
    ) -> nn.Module:
        """Build a model with random values; see :func:`zoo.hookspecs.zoo_build_model`."""
        from torch import nn

        model = self._call(
            "zoo_build_model",
            architecture=architecture,
            num_classes=num_classes,
            in_channels=in_channels,
            options=dict(options),
        )
        if not isinstance(model, nn.Module):
            raise self._nonsense("zoo_build_model", model, "a torch.nn.Module")
        return model

    def stages(self, architecture: Architecture, model: nn.Module) -> Sequence[Stage]:
        """Cut a model into stages; see :func:`zoo.hookspecs.zoo_stages`."""
        from zoo.chain import Stage

        stages = self._call("zoo_stages", architecture=architecture, model=model)
        if not isinstance(stages, Sequence) or not stages or not all(isinstance(stage, Stage) for stage in stages):
            raise self._nonsense("zoo_stages", stages, "a list of zoo.chain.Stage")
        return tuple(stages)

    def chain(self, architecture: Architecture, model: nn.Module) -> Chain:
        """The stages of a model as the chain that zoo trains, made anew at each call."""
        from zoo.chain import Chain

        stages = self.stages(architecture, model)
        try:
            return Chain(model, stages, head_parameters=architecture.head_parameters)
        except HookError as error:
            raise HookError(f"{self.record.label}: {error}") from error

    def import_state(
        self, architecture: Architecture, model: nn.Module, state: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Rename a checkpoint's tensors; see :func:`zoo.hookspecs.zoo_import_state`. ``state`` stays as it is."""
        returned = self._call("zoo_import_state", architecture=architecture, model=model, state=dict(state))
        return self._tensors("zoo_import_state", returned)

    def export_state(self, architecture: Architecture, model: nn.Module) -> Mapping[str, Tensor]:
        """Give the tensors in the published layout; see :func:`zoo.hookspecs.zoo_export_state`."""
        return self._tensors("zoo_export_state", self._call("zoo_export_state", architecture=architecture, model=model))

    @property
    def has_callbacks(self) -> bool:
        """Whether the plugin can follow runs."""
        return self._implements(_OF_RUNS)

    def callbacks(self, run: RunInfo) -> tuple[Callback, ...]:
        """Begin to follow a run; see :func:`zoo.hookspecs.zoo_callbacks`."""
        from zoo.training.callbacks import Callback

        callbacks = self._call(_OF_RUNS, run=run)
        if not isinstance(callbacks, Sequence) or not all(isinstance(callback, Callback) for callback in callbacks):
            raise self._nonsense(_OF_RUNS, callbacks, "a list of zoo.training.callbacks.Callback")
        return tuple(callbacks)

    def _implements(self, hook: str) -> bool:
        return any(implementation.plugin is self._plugin for implementation in self._caller(hook).get_hookimpls())

    def _call(self, hook: str, **arguments: object) -> Any:
        # Without the default where the plugin has its own: else a forgotten `return` would be answered by it.
        caller = self._caller(hook)
        if self._implements(hook):
            caller = self._manager.subset_hook_caller(hook, [defaults])
        with self._blamed(self._words(hook)):
            return caller(**arguments)

    def _words(self, hook: str) -> str:
        """The hook, or what zoo does for one that the plugin leaves out: the model is the plugin's all the same."""
        return hook if self._implements(hook) else _INSTEAD.get(hook, hook)

    @contextmanager
    def _blamed(self, doing: str) -> Iterator[None]:
        """What goes wrong in the block is the plugin's doing, a Ctrl-C is not."""
        with watched_signals() as signalled:
            try:
                with redirect_stdout(sys.stderr):
                    yield
            except (OptionError, WeightsError, MissingExtraError, HookError):
                raise
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit) and signalled():
                    raise
                raise HookError(f"{self.record.label}: {doing} {_raised(error)}.") from error

    def _caller(self, hook: str) -> pluggy.HookCaller:
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        return caller

    def _tensors(self, hook: str, returned: object) -> Mapping[str, Tensor]:
        from torch import Tensor

        if not isinstance(returned, Mapping):
            raise self._nonsense(hook, returned, "tensors by name")
        for name, tensor in returned.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise HookError(
                    f"{self.record.label}: {self._words(hook)} returned a {type(tensor).__name__} under {shown(name)}."
                )
        return returned

    def _nonsense(self, hook: str, returned: object, wanted: str) -> HookError:
        found = "nothing" if returned is None else f"a value of type {type(returned).__name__}"
        if isinstance(returned, Sequence) and not isinstance(returned, str | bytes):
            kinds = sorted({type(item).__name__ for item in returned})
            found = f"a list of {', '.join(kinds)}" if kinds else "an empty list"
        return HookError(f"{self.record.label}: {self._words(hook)} returned {found} instead of {wanted}.")


def load_plugin(record: Plugin, *, versions: Mapping[str, str]) -> PluginHooks:
    """Import a plugin and register it in a plugin manager of its own.

    Args:
        record: Which one.
        versions: Versions of the installed distributions by canonical name, for advice on missing ones.

    Returns:
        Its hooks; their record is in state loaded and has the notes.

    Raises:
        BrokenPluginError: The import fails, or the module does not keep the contract.
        IncompatiblePluginError: It was written for another hook API.
    """
    before = set(sys.modules)
    start = time.perf_counter()
    plugin = _import(record, versions)
    seconds = time.perf_counter() - start
    try:
        _check_api(record, plugin)
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(defaults)
        _check_hooks(record, plugin, manager)
        manager.register(plugin)
        manager.check_pending()
    except PluginError:
        raise
    except BaseException as error:  # an object that answers strangely when it is looked at
        raise BrokenPluginError(f"{record.label}: looking for its hooks {_raised(error)}.") from error
    notes = tuple(_notes(plugin, seconds, set(sys.modules) - before))
    loaded = dataclasses.replace(record, state=PluginState.loaded, notes=tuple(dict.fromkeys((*record.notes, *notes))))
    return PluginHooks(loaded, manager, plugin, import_notes=notes)


def _import(record: Plugin, versions: Mapping[str, str]) -> object:
    module, _, attribute = record.module.partition(":")
    signalled: Callable[[], bool] = bool
    try:
        with watched_signals() as signalled, redirect_stdout(sys.stderr):
            plugin: object = importlib.import_module(module)
            for name in attribute.split(".") if attribute else ():
                plugin = getattr(plugin, name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit) and signalled():
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"while {record.label} was being imported") from None
            raise
        advice = _advice(record, error, versions) if isinstance(error, ModuleNotFoundError) else ""
        raise BrokenPluginError(f"{record.label}: importing {record.module} {_raised(error)}{advice}.") from error
    return plugin


def _advice(record: Plugin, error: ModuleNotFoundError, versions: Mapping[str, str]) -> str:
    missing = (error.name or "").partition(".")[0]
    if missing == record.module.partition(":")[0].partition(".")[0]:
        return (
            "; its files are incomplete, or its entry point is misspelt: pip install --force-reinstall "
            f"{record.distribution or missing}"
        )
    if wanted := list(_missing_requirements(record.requires, versions)):
        return "; it needs what is not installed: pip install " + " ".join(wanted)
    return f"; it needs a package that is not installed: pip install {missing}, unless another one provides it"


def _missing_requirements(requires: Sequence[str], versions: Mapping[str, str]) -> Iterator[str]:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        wanted_here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted_here and canonical(requirement.name) not in versions:
            text = f"{requirement.name}{requirement.specifier}"
            yield f"'{text}'" if requirement.specifier else text


def _check_api(record: Plugin, plugin: object) -> None:
    stated = getattr(plugin, "ZOO_HOOK_API", None)
    if stated is None:
        raise BrokenPluginError(f"{record.label} does not say which hook API it was written for: add ZOO_HOOK_API = 1.")
    if type(stated) is not int:
        raise BrokenPluginError(f"{record.label} states ZOO_HOOK_API = {shown(stated)}, which is no whole number.")
    if stated != HOOK_API:
        newer = stated > HOOK_API
        package = "torch-zoo" if newer else record.distribution or record.module
        raise IncompatiblePluginError(
            f"{record.label} was written for hook API {stated}, which is {'newer' if newer else 'older'} than this "
            f"zoo's {HOOK_API}: pip install -U {package}."
        )


def _check_hooks(record: Plugin, plugin: object, manager: pluggy.PluginManager) -> None:
    """Refuse what pluggy would pass over in silence or say less clearly."""
    known = [name for name in dir(hookspecs) if manager.parse_hookspec_opts(hookspecs, name) is not None]
    implemented = set()
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            if name in known:
                raise BrokenPluginError(f"{record.label}: {name} is not marked as a hook: write @hookimpl above it.")
            continue
        hook = options.get("specname") or name
        if hook not in known:
            raise BrokenPluginError(
                f"{record.label}: there is no hook {hook!r}; there are {', '.join(known)}.{did_you_mean(hook, known)}"
            )
        for option in ("wrapper", "hookwrapper", "trylast"):
            if options.get(option):
                raise BrokenPluginError(f"{record.label}: {name}: @hookimpl({option}=True) has no use here; remove it.")
        allowed = list(inspect.signature(getattr(hookspecs, hook)).parameters)
        _check_arguments(record, name, inspect.signature(getattr(plugin, name)), allowed)
        implemented.add(hook)
    if _OF_RUNS in implemented and implemented.isdisjoint(_OF_ARCHITECTURES):
        return
    for hook in _OF_ARCHITECTURES:
        if hook not in implemented:
            near = [name for name in dir(plugin) if callable(getattr(plugin, name, None)) and name not in known]
            raise BrokenPluginError(
                f"{record.label} has no {hook}, which every plugin needs.{did_you_mean(hook, near)}"
            )


def _check_arguments(record: Plugin, name: str, signature: inspect.Signature, allowed: Sequence[str]) -> None:
    for argument in signature.parameters.values():
        where = f"{record.label}: {name}: argument {argument}"
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD, argument.KEYWORD_ONLY):
            raise BrokenPluginError(f"{where}: hooks take plain arguments by name, of: {', '.join(allowed) or 'none'}.")
        if argument.name not in allowed:
            raise BrokenPluginError(
                f"{record.label}: {name} has no argument {argument.name!r}; it may take "
                f"{', '.join(allowed) or 'none'}.{did_you_mean(argument.name, allowed)}"
            )
        if argument.default is not argument.empty:
            raise BrokenPluginError(f"{where}: an argument with a default is never passed; remove the default.")


def _notes(plugin: object, seconds: float, imported: set[str]) -> Iterator[str]:
    if seconds > _SLOW_S:
        yield f"importing it took {seconds:.1f} s; imports belong inside its functions"
    held = (
        {value.__name__.partition(".")[0] for value in vars(plugin).values() if isinstance(value, ModuleType)}
        if isinstance(plugin, ModuleType)
        else set()
    )
    heavy = [name for name in _HEAVY if name in imported or name in held]
    if heavy:
        yield f"it imports {', '.join(heavy)} at module level, which slows every listing; import inside its functions"


def _raised(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"called sys.exit({'' if error.code is None else shown(error.code)}){_where(error)}"
    return f"raised {_one_line(error)}{_where(error)}"


def _where(error: BaseException) -> str:
    """The last line of the plugin's own code in the traceback: below what it calls, above zoo and pluggy."""
    if isinstance(error, SyntaxError):
        return ""  # its text says where
    ours = tuple(str(Path(module.__file__).parent) for module in (hookspecs, pluggy, importlib) if module.__file__)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(("<", *ours))
    ]
    if not frames:
        return ""
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(Path(frames[0].filename).parent)]
    return f" ({own[-1].filename}:{own[-1].lineno})"


def _one_line(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # a plugin's exception may not even have a text, or end the process when asked for it
        text = ""
    text = ascii_safe(" ".join(text.split()))
    text = text if len(text) <= 300 else text[:297] + "..."
    return f"{type(error).__name__}: {text}".rstrip(".: ")

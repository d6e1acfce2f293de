"""Plugins that follow a run: found by name before it begins, and left out of it when they fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout

from zoo.decoding import shown
from zoo.errors import PluginError, UnknownNameError, ZooError, did_you_mean
from zoo.plugins import Plugins
from zoo.plugins.hooks import PluginHooks
from zoo.plugins.interrupts import watched_signals
from zoo.progress import Progress
from zoo.training.callbacks import Callback, RunInfo, TrainerState


def find_trackers(plugins: Plugins, names: str | Sequence[str]) -> tuple[PluginHooks, ...]:
    """The plugins that are to follow a run; imports these and no others.

    Args:
        plugins: Where they are.
        names: Their names, each counted once; or one.

    Raises:
        UnknownNameError: There is no plugin with callbacks of a name.
        UsageError: It is disabled.
        PluginError: It cannot be used.
    """
    known = {record.name for record in plugins.records()}
    found = []
    for name in dict.fromkeys([names] if isinstance(names, str) else names):
        hooks = plugins.hooks(name) if name in known else None
        if hooks is None or not hooks.has_callbacks:
            trackers = _with_callbacks(plugins)
            problem = f"{hooks.record.label} has no callbacks" if hooks else f"no plugin is called {shown(name)}"
            raise UnknownNameError(
                f"{problem}, so --track cannot use it; there are {', '.join(trackers) or 'none'}."
                f"{did_you_mean(name, trackers)}"
            )
        found.append(hooks)
    return tuple(found)


def open_trackers(trackers: Sequence[PluginHooks], run: RunInfo, progress: Progress) -> list[Callback]:
    """What tells the plugins of a run. One that fails gives one warning, and is told nothing more.

    Args:
        trackers: The plugins' hooks.
        run: The run.
        progress: Where to warn.

    Raises:
        MissingExtraError: A plugin needs a package that is not installed.
    """
    opened: list[Callback] = []
    for hooks in trackers:
        try:
            callbacks = hooks.callbacks(run)
        except PluginError as error:
            progress.warn(f"{error} The run goes on without it.")
            continue
        opened.append(_Guarded(hooks.record.label, callbacks, progress))
    return opened


def _with_callbacks(plugins: Plugins) -> list[str]:
    """Names of the plugins that can follow runs; those of others are not imported for it."""
    found = []
    for record in plugins.records():
        try:
            if plugins.has_callbacks(record.name):
                found.append(record.name)
        except ZooError:  # 'zoo plugins list' tells
            continue
    return found


class _Guarded(Callback):
    """One plugin's callbacks, until one of them fails; what they print goes to stderr."""

    def __init__(self, label: str, callbacks: Sequence[Callback], progress: Progress) -> None:
        self._label = label
        self._callbacks = tuple(callbacks)
        self._progress = progress

    def on_phase_start(self, state: TrainerState) -> None:
        self._tell("on_phase_start", lambda callback: callback.on_phase_start(state))

    def on_epoch_end(self, state: TrainerState, row: Mapping[str, object]) -> None:
        self._tell("on_epoch_end", lambda callback: callback.on_epoch_end(state, dict(row)))

    def on_phase_end(self, state: TrainerState) -> None:
        self._tell("on_phase_end", lambda callback: callback.on_phase_end(state))

    def on_finish(self, metrics: Mapping[str, object]) -> None:
        self._tell("on_finish", lambda callback: callback.on_finish(dict(metrics)))

    def _tell(self, event: str, call: Callable[[Callback], None]) -> None:
        with watched_signals() as signalled:
            try:
                with redirect_stdout(sys.stderr):
                    for callback in self._callbacks:
                        call(callback)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit) and signalled():  # a Ctrl-C or SIGTERM came
                    raise
                self._callbacks = ()
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".: ")
                self._progress.warn(f"{self._label}: {event} raised {reason}. The run goes on without it.")

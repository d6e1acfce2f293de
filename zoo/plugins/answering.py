"""The process of :mod:`zoo.plugins.asking`: ``python -m zoo.plugins.answering ANSWER``, the question on stdin."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import msgspec

from zoo.architecture import Architecture
from zoo.errors import IncompatiblePluginError, PluginError
from zoo.plugins.asking import Question
from zoo.plugins.facts import Facts
from zoo.plugins.hooks import load_plugin
from zoo.plugins.records import Plugin

_LONGEST_TRACE = 20_000


def main() -> None:
    """Import the plugin, write down what it lists or how it failed, and end at once, whatever it left running."""
    end, replace = os._exit, os.replace  # a plugin may put others in their place
    file = Path(sys.argv[1])
    answer = _answer(msgspec.json.decode(sys.stdin.buffer.read(), type=Question))
    written = file.with_name(f"{os.getpid()}.json")  # a plugin may have made two processes of this one
    written.write_bytes(msgspec.json.encode(answer))
    replace(written, file)
    end(0)


def _answer(question: Question) -> Facts[Architecture]:
    plugin = Plugin(
        name=question.name,
        distribution=question.distribution,
        version=question.version,
        module=question.module,
        origin=question.origin,
        requires=question.requires,
    )
    try:
        hooks = load_plugin(plugin, versions=question.versions)
        answer = Facts(hooks.architectures(), callbacks=hooks.has_callbacks, notes=hooks.import_notes)
    except PluginError as error:
        trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
        return Facts(error=str(error), incompatible=isinstance(error, IncompatiblePluginError), trace=trace)
    if repr(msgspec.json.decode(msgspec.json.encode(answer), type=Facts[Architecture])) != repr(answer):
        return Facts(
            error=f"{plugin.label}: zoo_architectures: its facts are others once they were written as JSON; use finite "
            "numbers and plain text."
        )
    return answer


if __name__ == "__main__":
    main()

"""Write the pages that repeat what the code says: one for each hook, the fields of the facts, the kit's checks.

docs/plugins/hooks/NAME.md comes from the hook's specification in zoo/hookspecs.py, docs/plugins/checks.md from
zoo/testing/checks, docs/plugins/facts.md from the docstrings of what facts are made of.
``python scripts/generate_hook_docs.py`` writes them, ``--check`` only says whether they are current.
"""

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pluggy

from zoo import defaults, hookspecs
from zoo.architecture import Architecture, Option, Preprocessing, Weights
from zoo.chain import Stage
from zoo.testing import CHECKS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "plugins"
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$", re.MULTILINE)
FACTS = (Architecture, Preprocessing, Option, Weights, Stage)
TITLES = {"Args": "Arguments", "Returns": "Returns", "Raises": "Raises"}


def pages() -> dict[str, str]:
    """The pages by their path below docs/plugins."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    names = [name for name in vars(hookspecs) if manager.parse_hookspec_opts(hookspecs, name) is not None]
    found = {f"hooks/{name}.md": _page(name) for name in names}
    rows = [f"- [{name}]({name}.md): {_first_sentence(name)}" for name in names]
    found["hooks/README.md"] = "\n".join(["# Hooks", "", _introduction(), "", *rows, ""])
    found["checks.md"] = _checks()
    found["facts.md"] = _facts()
    return found


def _checks() -> str:
    lines = [
        "# The checks of the kit",
        "",
        "What `zoo plugins check` and `zoo.testing` look at, in this order. The ids are public: none is removed or "
        "renamed, and one that is added only warns for one minor release. A check is not run where one that it needs "
        "has failed. [What the kit finds](kit-tables.md) in zoo's own plugins and in wrong ones is in tables. "
        "Written by `scripts/generate_hook_docs.py`.",
        "",
        "The kit looks for mistakes. It cannot show malice: a plugin that knows the kit can behave while watched, "
        "reach files and the network by other ways than Python's, or put back what it changed. Nor can it show what "
        "comes late or elsewhere: after the first steps, beyond 17 images a batch and a few sizes, at some date, on "
        "another machine, GPU or version of torch.",
    ]
    for check in CHECKS:
        scope = "once a plugin" if check.scope == "plugin" else "for each architecture"
        needs = f"; needs {', '.join(f'[{needed}](#{needed})' for needed in check.needs)}" if check.needs else ""
        lines += [
            "",
            f"## {check.id}",
            "",
            f"{check.claim} ({scope}{'; a warning' if check.warns else ''}{needs})",
            "",
            f"- **Why**: {check.why}",
            f"- **What to do**: {check.advice}",
        ]
    return "\n".join([*lines, ""])


def _facts() -> str:
    lines = [
        "# The fields of the facts",
        "",
        "`from zoo.architecture import Architecture, Option, Preprocessing, Weights`, and inside hooks `from zoo.chain "
        "import Stage`. All are frozen dataclasses. zoo refuses facts that cannot be true, and says which field. "
        "Written by `scripts/generate_hook_docs.py` from their docstrings.",
    ]
    for kind in FACTS:
        prose, _, described, *_ = SECTION.split(inspect.getdoc(kind) or "")
        parameters = [f"    {field.name}: {_type(field)}{_default(field)}," for field in fields(kind)]
        code = ["```python", f"{kind.__name__}(", *parameters, ")", "```"]
        lines += ["", f"## {kind.__name__}", "", _prose(prose), "", *code, "", _items(described)]
    return "\n".join([*lines, ""])


def _type(field: Field[Any]) -> str:
    text = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    return text.replace("zoo.architecture.", "").replace("collections.abc.", "")


def _default(field: Field[Any]) -> str:
    """A default of a field of plain values, or the name of the class that it is made by."""
    if field.default_factory is not MISSING:
        return f" = {field.default_factory.__name__}()"
    if field.default is MISSING:
        return ""
    plain = isinstance(field.default, str | int | float | tuple | None)
    return f" = {field.default!r}" if plain else f" = {type(field.default).__name__}()"


def _page(name: str) -> str:
    hook = getattr(hookspecs, name)
    docstring = inspect.getdoc(hook) or ""
    signature = str(inspect.signature(hook)).replace("'", "")
    parts = SECTION.split(docstring)
    lines = [f"# {name}", "", "```python", _wrapped(f"{name}{signature}"), "```", "", _prose(parts[0])]
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        lines += ["", f"## {TITLES[title]}", "", _items(text) if title != "Returns" else _prose(inspect.cleandoc(text))]
    if default := getattr(defaults, name, None):
        lines += ["", "## Left out", "", _prose(inspect.getdoc(default) or "")]
    lines += [
        "",
        "---",
        "An implementation may leave out arguments that it does not need; they are passed by name. "
        "[Tutorial](../tutorial.md) · [All hooks](README.md)",
        "",
    ]
    return "\n".join(lines)


def _wrapped(signature: str) -> str:
    if len(signature) <= 100:
        return signature
    head, _, rest = signature.partition("(")
    arguments, _, returned = rest.rpartition(")")
    depth, parts = 0, [""]
    for sign in arguments:
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return "\n".join([f"{head}(", *(f"    {part.strip()}," for part in parts), f"){returned}"])


def _prose(text: str) -> str:
    text = re.sub(r":(?:class|func|attr|meth|mod|data):`~?([^`]+)`", r"`\1`", text.strip()).replace("``", "`")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _items(text: str) -> str:
    items: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        if line and not line[0].isspace():
            name, _, rest = line.partition(":")
            items.append(f"- `{name}`: {rest.strip()}")
        elif line:
            items[-1] += f" {line.strip()}"
    return "\n".join(_prose(item) for item in items)


def _first_sentence(name: str) -> str:
    return _prose((inspect.getdoc(getattr(hookspecs, name)) or "").partition("\n")[0])


def _introduction() -> str:
    return (
        "A plugin implements these with `@hookimpl` of `zoo.hookspecs` and states "
        f"`ZOO_HOOK_API = {hookspecs.HOOK_API}`. `zoo_architectures` and `zoo_build_model` are required, unless the "
        "plugin has `zoo_callbacks` and no architectures. "
        "The pages are written by `scripts/generate_hook_docs.py` from `zoo/hookspecs.py`."
    )


def main() -> int:
    """Write the pages, or with ``--check`` compare them."""
    wanted = pages()
    if "--check" in sys.argv:
        there = {str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in _written(wanted)}
        stale = sorted(name for name in {**there, **wanted} if there.get(name) != wanted.get(name))
        if stale:
            print(f"not current: {', '.join(stale)}; run python scripts/generate_hook_docs.py")
        return 1 if stale else 0
    for path in _written(wanted):
        path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


def _written(wanted: Mapping[str, str]) -> set[Path]:
    """The pages that are there: those that are wanted, and those of hooks that are gone."""
    return {*(FOLDER / "hooks").glob("*.md"), *(FOLDER / name for name in wanted if (FOLDER / name).is_file())}


if __name__ == "__main__":
    sys.exit(main())

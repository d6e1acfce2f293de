"""The pages that repeat what the code says are current, and the handwritten ones name what there is."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pluggy

from zoo import hookspecs
from zoo.architecture import Architecture, Option, Preprocessing, Weights
from zoo.chain import Stage
from zoo.plugins import PluginState
from zoo.plugins.facts import check_architectures

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "plugins"


def test_the_pages_of_hooks_and_checks_are_current() -> None:
    script = ROOT / "scripts" / "generate_hook_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_hook_has_a_page_with_every_argument() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for name in (name for name in vars(hookspecs) if name.startswith("zoo_")):
        page = (DOCS / "hooks" / f"{name}.md").read_text(encoding="utf-8")
        for argument in getattr(manager.hook, name).spec.argnames:
            assert f"{argument}: " in page, f"{name} says nothing of {argument}"


def test_every_field_of_the_facts_is_explained() -> None:
    page = (DOCS / "facts.md").read_text(encoding="utf-8")
    for kind in (Architecture, Preprocessing, Option, Weights, Stage):
        section = page.partition(f"## {kind.__name__}\n")[2].partition("\n## ")[0]
        missing = [field.name for field in dataclasses.fields(kind) if f"- `{field.name}`: " not in section]
        assert not missing, f"{kind.__name__}: {missing}"


def test_the_weights_of_the_tutorial_are_facts_that_zoo_takes() -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8").partition("## Weights")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    (architecture,) = check_architectures(
        [eval(code, {"Architecture": Architecture, "Weights": Weights})], plugin="lab"
    )
    assert architecture.default_weights == architecture.weights[0].tag


def test_every_state_of_a_plugin_is_explained() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    assert all(f"**{state}**" in page for state in PluginState)


def test_links_between_the_pages_lead_somewhere() -> None:
    import re

    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

"""Checks of a plugin as a whole: that it loads, its facts, and what it does to the process."""

from __future__ import annotations

import copy
import pickle

import msgspec

from zoo.architecture import Architecture
from zoo.registry import Registry
from zoo.testing.check import NotApplicable, check, fail_unless
from zoo.testing.probe import facts_text
from zoo.testing.subject import Subject
from zoo.weights.class_names import class_names


@check(
    scope="plugin",
    needs=(),
    why="A plugin that does not load shows as broken in every listing, and nothing it provides can be used.",
    advice="Mend what the message names; 'zoo plugins list' shows the same.",
)
def loads(subject: Subject) -> None:
    """The plugin is imported, states hook API 1, and its hooks have the right names and arguments."""
    assert subject.hooks is not None


@check(
    scope="plugin",
    needs=("loads",),
    why="Listings, messages and artifacts are made of these facts; a wrong one misleads every user.",
    advice="Correct the Architecture in zoo_architectures.",
)
def facts_valid(subject: Subject) -> None:
    """Every architecture's facts are possible and agree with each other."""
    if not subject.plugin.architectures and subject.hooks.has_callbacks:
        raise NotApplicable("the plugin has callbacks and no architectures")
    fail_unless(subject.plugin.architectures, "zoo_architectures lists no architecture")
    for architecture in subject.plugin.architectures:
        for flaw in _flaws(architecture, subject.plugin.plugins.registry):
            fail_unless(False, f"{architecture.name}: {flaw}")


@check(
    scope="plugin",
    needs=("facts_valid",),
    why="Facts are kept on disk, so a listing of tomorrow shows what was true today.",
    advice="Let zoo_architectures return constants: nothing of the time, the machine, the process or an earlier call, "
    "and no order of a set.",
)
def facts_constant(subject: Subject) -> None:
    """Asked twice, and in another process, the plugin lists the same facts."""
    first, second = subject.plugin.architectures, subject.hooks.architectures()
    fail_unless(first == second, f"the second call of zoo_architectures gave other facts: {_difference(first, second)}")
    here = {architecture.name: facts_text(architecture) for architecture in first}
    there = subject.plugin.findings.facts
    different = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    fail_unless(not different, f"in another process zoo_architectures gave other facts: {', '.join(different[:3])}")


@check(
    scope="plugin",
    needs=("facts_valid",),
    why="Facts travel to worker processes by pickle and to the cache as JSON; facts that do not survive are asked for "
    "again at every listing, which imports the plugin.",
    advice="Use plain values in Architecture, Option and Weights: text, numbers, tuples, dictionaries.",
)
def picklable_facts(subject: Subject) -> None:
    """Facts are equal after pickle, copy and JSON."""
    for architecture in subject.plugin.architectures:
        for way, twin in (
            ("pickle", pickle.loads(pickle.dumps(architecture))),
            ("copy", copy.deepcopy(architecture)),
            ("JSON", msgspec.json.decode(msgspec.json.encode(architecture), type=Architecture)),
        ):
            fail_unless(repr(twin) == repr(architecture), f"{architecture.name} is another after {way}")


@check(
    scope="plugin",
    needs=("facts_valid",),
    warns=True,
    why="'zoo list' and 'zoo --help' import no torch and answer at once; one plugin that does makes them wait seconds.",
    advice="Move the import into the hook, or the network into a module that the hook imports.",
)
def torch_free_import(subject: Subject) -> None:
    """Importing the plugin and asking for its facts imports no torch."""
    found = subject.plugin.findings.heavy
    fail_unless(not found, f"the plugin's module imports {', '.join(found)}")


@check(
    scope="plugin",
    needs=("facts_valid",),
    why="Weights are zoo's to fetch: only so is a hash checked, a cache shared, and --offline kept.",
    advice="State published weights as facts (zoo.architecture.Weights) and build with random values.",
)
def no_network(subject: Subject) -> None:
    """Importing, listing, building and running touch no network."""
    found = subject.plugin.findings.network
    fail_unless(not found, f"it tried {'; '.join(found)}")


@check(
    scope="plugin",
    needs=("facts_valid",),
    why="A file that is read decides the model without being in any artifact; one that is written surprises its owner. "
    "Another process, or C code called by hand, can do both unseen.",
    advice="Keep constants in the code, and leave weights to zoo: --weights FILE and zoo_import_state.",
)
def no_files(subject: Subject) -> None:
    """Importing, listing, building and running read no file but code, write none, and start nothing that could."""
    findings = subject.plugin.findings
    fail_unless(not findings.read, f"it read {', '.join(findings.read)}")
    fail_unless(not findings.written, f"it wrote {', '.join(findings.written)}")
    fail_unless(not findings.started, f"it started {', '.join(findings.started)}")


@check(
    scope="plugin",
    needs=("facts_valid",),
    why="The process belongs to its owner: a seed or a type set by one plugin, or a function that it replaces, changes "
    "the results of all others.",
    advice="Remove the call or the assignment; draw random values from torch's generator as it is, and pass dtype and "
    "device explicitly.",
)
def leaves_process_alone(subject: Subject) -> None:
    """Importing, building and running change no setting or function of the process and seed no random numbers."""
    found = subject.plugin.findings.changed
    fail_unless(not found, f"it changed {', '.join(found)}")


def _flaws(architecture: Architecture, registry: Registry) -> list[str]:
    """What zoo can live with, and a user cannot."""
    flaws = []
    sizes = architecture.preprocessing.input_size[1:]
    if architecture.smallest_training_input < architecture.smallest_input:
        flaws.append("smallest_training_input is below smallest_input")
    if min(sizes) < architecture.smallest_input:
        flaws.append(f"its input of {sizes[0]} × {sizes[1]} pixels is below smallest_input")
    recipes = registry.recipes
    for fact in ("default_recipe", "scratch_recipe"):
        name = getattr(architecture, fact)
        if name and name not in recipes:
            flaws.append(f"{fact} {name!r} is none of {', '.join(sorted(recipes))}")
    for option in architecture.options:
        if option.name == "image_size":
            if type(option.default) is not int or (option.default, option.default) != tuple(sizes):
                flaws.append("the default of option image_size is not the edge of the square input_size")
            if option.minimum is None or option.minimum < architecture.smallest_input:
                flaws.append("the minimum of option image_size is below smallest_input")
        if not option.help:
            flaws.append(f"option {option.name} has no help")
    for weights in architecture.weights:
        names = class_names(weights.class_names) if weights.class_names else ()
        if weights.class_names and len(names) != weights.num_classes:
            flaws.append(
                f"weights {weights.tag}: class_names {weights.class_names!r} is a list of {len(names)} names, and "
                f"num_classes is {weights.num_classes}"
            )
        if weights.url is not None and not weights.url.startswith("https://"):
            flaws.append(f"weights {weights.tag}: the url does not start with https://")
    return flaws


def _difference(first: tuple[Architecture, ...], second: tuple[Architecture, ...]) -> str:
    for one, other in zip(first, second, strict=False):
        if one != other:
            return one.name
    return f"{len(first)} and {len(second)} architectures"

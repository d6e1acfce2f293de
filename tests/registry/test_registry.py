import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import OptionError, RegistryError, UnknownNameError
from zoo.recipes import Phase, never_reached, without_effect
from zoo.registry import Registry, load_registry, phase_data, registry_schema, shipped_registry, validate_phase

Load = Callable[[str], Registry]
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a registry whose deciding file has this text."""

    def _load(text: str) -> Registry:
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        return load_registry(tmp_path / "mine.toml", working_folder=tmp_path)

    return _load


def user_file() -> Path:
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "zoo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "registry.toml"


def test_shipped_registry_has_both_recipes_and_only_aliases(tmp_path: Path) -> None:
    registry = load_registry(working_folder=tmp_path)
    assert registry.files == (shipped_registry(),)
    assert registry.recipe("frozen").phases[0].train == "head"
    assert registry.recipe("full").phases[0].train == "all"
    assert {name: preset.base for name, preset in registry.presets.items()}.items() >= {
        "resnet18": "resnet/resnet18",
        "resnext101_64x4d": "resnet/resnext101_64x4d",
        "simple_cnn": "simple_cnn/simple_cnn",
    }.items()
    for name, preset in registry.presets.items():
        assert dataclasses.replace(preset, name="", base="", origin="") == type(preset)(name="", base="")
        assert preset.base.endswith(f"/{name}")
        assert registry.origin(f"presets.{name}") == shipped_registry()


def test_everything_that_may_be_stated_is_decoded(load: Load, tmp_path: Path) -> None:
    registry = load(
        f"""
        schema = 1
        [discovery]
        entry_points = false
        allow = ["resnet", "lab"]
        deny = ["old-vgg"]
        [presets.pets]
        base = "resnet/resnet50"
        num_classes = 37
        weights = "weights/pets.safetensors"
        sha256 = "{"0F" * 32}"
        recipe = "careful"
        options = {{drop = 0.5, widths = [1, 2], norm = true, act = "relu"}}
        [presets.tagged]
        base = "resnet/resnet50"
        weights = "imagenet1k_v2"
        [plugins.lab]
        distribution = "lab-zoo"
        version = ">=0.1,<1"
        module = "lab.plugin"
        [recipes.careful]
        phases = [ {{epochs = 5, train = "head", clip = "none"}}, {{epochs = 10, lr = 1, patience = 3}} ]
        """
    )
    pets = registry.presets["pets"]
    assert (registry.entry_points, registry.allow, registry.deny) == (False, ("resnet", "lab"), {"old-vgg"})
    assert pets.weights == str(tmp_path / "weights" / "pets.safetensors")
    assert (pets.num_classes, pets.sha256, pets.recipe) == (37, "0f" * 32, "careful")
    assert pets.options == {"drop": 0.5, "widths": (1, 2), "norm": True, "act": "relu"}
    assert registry.presets["tagged"].weights == "imagenet1k_v2"
    assert dataclasses.astuple(registry.plugins["lab"]) == ("lab", "lab-zoo", ">=0.1,<1", "lab.plugin")
    assert registry.recipe("careful").phases == (
        Phase(epochs=5, train="head", clip=None),
        Phase(epochs=10, lr=1.0, patience=3),
    )
    assert pets.origin == f"{tmp_path / 'mine.toml'}:7"
    assert registry.place("discovery.deny.old-vgg") == f"{tmp_path / 'mine.toml'}:6"
    json.dumps(registry.explain(), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = 2", ("mine.toml:1: schema: 2 is not 1", "pip install -U torch-zoo")),
        ("schema = true", ("schema: true is not 1",)),
        ("shema = 1", ("mine.toml:1: shema: unknown key", "Did you mean 'schema'?")),
        ("[preset.x]\nbase = 'a/b'", ("mine.toml:1: preset: unknown key", "Did you mean 'presets'?")),
        ("presets = 3", ("presets: 3 is not a table",)),
        ("[discovery]\nallow = 'x'", ("mine.toml:2: discovery.allow: 'x' is not allowed", "a list")),
        ("[discovery]\n\ndeny = ['a', '../b']", ("mine.toml:3: discovery.deny[1]: '../b'",)),
        ("[discovery]\nentry_points = 1", ("discovery.entry_points: 1 is not allowed: expected true or false",)),
        ("[presets.x]", ("mine.toml:1: presets.x:", "missing required field base")),
        ("[presets.x]\nbase = 'resnet50'", ("mine.toml:2: presets.x.base: 'resnet50'",)),
        ("[presets.x]\nbase = '../a/b'", ("presets.x.base",)),
        ("[presets.x]\nbase = 'a/b'\nnum_classes = 0", ("mine.toml:3: presets.x.num_classes: 0", ">= 1")),
        ("[presets.x]\nbase = 'a/b'\nnum_class = 3", ("unknown key", "Did you mean 'num_classes'?")),
        ("[presets.x]\nbase = 'a/b'\nsha256 = 'abc'", ("mine.toml:3: presets.x.sha256",)),
        ("[presets.x]\nbase = 'a/b'\nsha256 = '" + "0" * 64 + "'", ("a hash needs the weights",)),
        ("[presets.x]\nbase = 'a/b'\nweights = 't'\nsha256 = '" + "0" * 64 + "\\n'", ("presets.x.sha256",)),
        ("[presets.x]\nbase = 'a/b'\n[presets.x.options]\ndrop = nan", ("mine.toml:4: presets.x.options.drop",)),
        ("[presets.x]\nbase = 'a/b'\noptions = {d = 2020-01-01}", ("mine.toml:3: presets.x.options.d",)),
        ("[presets.x]\nbase = 'a/b'\noptions = [1]", ("presets.x.options: [1] is not allowed: expected a table",)),
        ("[presets.x]\nbase = 'a/b'\nrecipe = 'frozn'", ("mine.toml:1", "'frozn'", "Did you mean 'frozen'?")),
        ("[presets.'a/b']\nbase = 'a/b'", ("mine.toml:1: presets.'a/b': a name is made of",)),
        ("[plugins.x]\nversion = 'new'", ("mine.toml:2: plugins.x.version: 'new'",)),
        ("[plugins.x]\nmodule = 'os; x'", ("plugins.x.module",)),
        ("[plugins.x]\ndistribution = '-e .'", ("plugins.x.distribution",)),
        ("[recipes.x]\nphases = []", ("mine.toml:2: recipes.x.phases", "length >= 1")),
        ("[recipes.x]\nphases = [3]", ("recipes.x.phases",)),
        ("[recipes.x]\nphases = [{}]", ("recipes.x.phases[0]", "missing required field epochs")),
        (
            "[recipes.x]\nphases = [\n  {epochs = 1}, # {\n  {epochs = 1, train = '{'},\n  {epochs = 0},\n]",
            ("mine.toml:5: recipes.x.phases[2].epochs: 0 is not allowed: expected a whole number >= 1",),
        ),
        (
            "[[recipes.x.phases]]\nepochs = 1\n[[recipes.x.phases]]\nepochs = 1\nlr = 0",
            ("mine.toml:5: recipes.x.phases[1].lr: 0 is not allowed: expected a number > 0.0",),
        ),
        (
            "[recipes.x]\nphases = [{epochs = 1, schedule = 'cosin'}]",
            ("'cosin' is not one of 'cosine', 'one-cycle', 'constant', 'plateau'. Did you mean 'cosine'?",),
        ),
        (
            "[recipes.x]\nphases = [{epochs = 1, lerning_rate = 1.0}]",
            ("recipes.x.phases[0].lerning_rate: unknown key",),
        ),
        ("[recipes.x]\nphases = [{epochs = 1, lr = inf}]", ("inf is not a finite number",)),
        ("[recipes.x]\nphases = [{epochs = 1, layer_decay = 1.5}]", ("<= 1.0",)),
        ("[recipes.x]\nphases = [{epochs = true}]", ("true is not allowed: expected a whole number",)),
        ("x = 1\nx = 2\n", ("not valid TOML", "line 2")),
        ("a = " + "[" * 5000, ("not valid TOML",)),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_place(load: Load, text: str, said: tuple[str, ...]) -> None:
    with pytest.raises(RegistryError) as error:
        load(text)
    for part in said:
        assert part in str(error.value)
    assert str(error.value).count("mine.toml") >= 1


@pytest.mark.parametrize(
    "weights",
    [
        "../w.safetensors",
        "/etc/w.safetensors",
        "a/../../w.safetensors",
        "C:\\\\w.safetensors",
        "..\\\\w.pth",
        "a/\\u0000.pth",
        "link/w.safetensors",
        "loop/w.safetensors",
        "folder.safetensors",
        "a b",
    ],
)
def test_weights_may_not_leave_the_folder_of_their_file(load: Load, tmp_path: Path, weights: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path.parent)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(RegistryError, match=r"mine\.toml:3: presets\.x\.weights: "):
        load(f'[presets.x]\nbase = "a/b"\nweights = "{weights}"')


def test_weights_may_be_linked_inside_the_folder(load: Load, tmp_path: Path) -> None:
    (tmp_path / "new.safetensors").write_bytes(b"")
    (tmp_path / "best.safetensors").symlink_to("new.safetensors")
    registry = load('[presets.x]\nbase = "a/b"\nweights = "best.safetensors"')
    assert registry.presets["x"].weights == str(tmp_path / "new.safetensors")


def test_unreadable_files_are_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (1 << 20) + b"\n")
    (tmp_path / "latin").write_bytes(b"schema = 1\n# caf\xe9\n")
    for name, said in {
        "fifo": "not a regular file",
        "large": "larger than 1 MiB",
        "latin": "latin:2 is not UTF-8",
        ".": "Is a directory",
        "absent": "No such file",
    }.items():
        with pytest.raises(RegistryError, match=said):
            load_registry(tmp_path / name)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbfschema = 1\n")
    assert load_registry(tmp_path / "mine.toml").files[-1].name == "mine.toml"


def test_later_files_replace_whole_tables_and_deny_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = user_file()
    user.write_text("[discovery]\ndeny = ['a']\n[presets.mine]\nbase = 'a/b'\nnum_classes = 3\n")
    (tmp_path / "registry.toml").write_text("[discovery]\ndeny = ['b']\n[presets.mine]\nbase = 'c/d'\n")
    named, explicit = tmp_path / "named.toml", tmp_path / "explicit.toml"
    named.write_text("[presets.named]\nbase = 'e/f'\n")
    explicit.write_text("[discovery]\ndeny = ['c']\n")

    monkeypatch.setenv("ZOO_REGISTRY", str(named))
    registry = load_registry(working_folder=tmp_path)
    assert registry.files == (shipped_registry(), user, tmp_path / "registry.toml", named)
    assert registry.deny == {"a", "b"}
    assert (registry.presets["mine"].base, registry.presets["mine"].num_classes) == ("c/d", None)
    assert registry.origin("presets.mine") == tmp_path / "registry.toml"
    assert registry.origin("discovery.deny.a") == user

    registry = load_registry(explicit, working_folder=tmp_path)
    assert registry.deny == {"a", "b", "c"}
    assert "named" not in registry.presets
    with pytest.raises(UnknownNameError, match=r"Did you mean 'presets\.mine'"):
        registry.origin("presets.mime")


def test_a_file_found_in_the_working_directory_names_no_code(tmp_path: Path) -> None:
    found = tmp_path / "registry.toml"
    found.write_text("[plugins.evil]\nmodule = 'evil'\n")
    with pytest.raises(RegistryError, match=r"registry\.toml:2: plugins\.evil\.module: .*--registry registry\.toml"):
        load_registry(working_folder=tmp_path)
    assert load_registry(found, working_folder=tmp_path).plugins["evil"].module == "evil"
    assert load_registry(found, working_folder=tmp_path).files.count(found) == 1


@pytest.mark.parametrize("widening", ["allow = []", "allow = ['resnet', 'evil']", "entry_points = true"])
def test_a_file_found_in_the_working_directory_only_narrows(tmp_path: Path, widening: str) -> None:
    user_file().write_text("[discovery]\nentry_points = false\nallow = ['resnet', 'vgg']\n")
    found = tmp_path / "registry.toml"
    found.write_text(f"[discovery]\n{widening}\n")
    with pytest.raises(RegistryError, match="may not let more plugins be imported"):
        load_registry(working_folder=tmp_path)
    load_registry(found, working_folder=tmp_path)
    found.write_text("[discovery]\nallow = ['Resnet']\n")
    assert load_registry(working_folder=tmp_path).allow == ("Resnet",)


def test_unknown_recipes_are_named_with_close_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"there are frozen, full.* Did you mean 'frozen'"):
        load_registry(working_folder=tmp_path).recipe("frozzen")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs: 0"),
        ({"epochs": 1.5}, "epochs: 1.5"),
        ({"lr": math.nan}, "lr: nan"),
        ({"train": ""}, "train: ''"),
        ({"clip": -1.0}, "clip: -1.0"),
        ({"patience": 0}, "patience: 0"),
        ({"optimizer": "adamW"}, "Did you mean 'adamw'"),
    ],
)
def test_phases_made_in_python_keep_the_same_rules(changes: Mapping[str, object], said: str) -> None:
    validate_phase(Phase(epochs=1), "phase 1")
    with pytest.raises(OptionError, match="phase 1: ") as error:
        validate_phase(Phase(**{"epochs": 1, **changes}), "phase 1")  # type: ignore[arg-type]
    assert said in str(error.value)


def test_schema_describes_every_key() -> None:
    schema = json.loads(json.dumps(registry_schema(), allow_nan=False))
    assert set(schema["$defs"]["Phase"]["properties"]) == {field.name for field in dataclasses.fields(Phase)}
    assert set(schema["$defs"]["FileTable"]["properties"]) == {"schema", "discovery", "presets", "plugins", "recipes"}
    assert schema["$defs"]["RecipeTable"]["properties"]["phases"]["items"] == {"$ref": "#/$defs/Phase"}


def _numbers(low: float, high: float, **ends: bool) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, **ends)  # type: ignore[arg-type]


PHASES = st.builds(
    Phase,
    epochs=st.integers(1, 10**9),
    train=st.sampled_from(["all", "head", "last 2", 'a "quoted" stage']),
    lr=_numbers(0, 1e6, exclude_min=True),
    schedule=st.sampled_from(["cosine", "one-cycle", "constant"]),
    warmup=_numbers(0, 1),
    weight_decay=_numbers(0, 1e6),
    layer_decay=_numbers(0, 1, exclude_min=True),
    batch_norm=st.sampled_from(["train", "eval"]),
    augment=st.sampled_from(["none", "light", "standard", "strong"]),
    batch_size=st.integers(1, 10**6),
    optimizer=st.sampled_from(["adamw", "adam", "sgd"]),
    label_smoothing=_numbers(0, 1, exclude_max=True),
    clip=st.none() | _numbers(0, 1e6, exclude_min=True),
    class_weights=st.sampled_from(["none", "balanced"]),
    patience=st.none() | st.integers(1, 10**6),
    sampling=st.sampled_from(["shuffle", "balanced"]),
    mixup=_numbers(0, 1e3),
    ema=st.none() | _numbers(0, 1, exclude_min=True, exclude_max=True),
).filter(lambda phase: not without_effect(phase) and not never_reached(phase))


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("schedule = 'one-cycle', warmup = 0.1", "warmup has no effect"),
        ("plateau = 2", "plateau has no effect"),
        ("batch_size = 8, micro_batch = 8", "micro_batch = 8 has no effect"),
        ("mixup = 0.2, micro_batch = 1", "no second image"),
        ('train = "head", recompute = true', "recompute has no effect"),
        ('train = "head", compile = true', "compile has nothing to gain"),
        ("recompute = true, compile = true", "recompute has no effect with compile"),
        ("train = 'head', layer_decay = 0.8", "layer_decay has no effect"),
        ("train = 'head', cutmix = 1.0", "cutmix has no effect"),
        ("sampling = 'balanced', class_weights = 'balanced'", "give one of them"),
        ("train = 'last 1', layer_decay = 0.8", "layer_decay has no effect"),
        ("train = 'last 1', cutmix = 1.0", "cutmix has no effect"),
        ("batch_size = 1, mixup = 0.2", "no second image"),
        ("views = 2", "all versions of an image would be the same"),
        ("views = 2, augment = 'light'", "nothing is frozen"),
        ("views = 5, augment = 'light', train = 'head'", "views = 5 is more than epochs = 4"),
        ("patience = 4", "patience = 4 has no effect with epochs = 4"),
        ("schedule = 'plateau', plateau = 3", "plateau = 3 has no effect with epochs = 4"),
        ("train = 'head', solver = 'lbfgs', lr = 1e-3", "lr has no effect with solver"),
        ("train = 'head', solver = 'lbfgs', schedule = 'cosine'", "schedule has no effect with solver"),
        ("train = 'head', solver = 'lbfgs', weight_decay = 0.1, clip = 2.0", "weight_decay and clip have no effect"),
        ("train = 'head', solver = 'lbfgs', batch_size = 32", "batch_size has no effect"),
        ("train = 'head', solver = 'lbfgs', optimizer = 'adamw'", "optimizer has no effect"),
        ("train = 'head', solver = 'lbfgs', batch_norm = 'eval'", "batch_norm has no effect"),
        ("train = 'head', solver = 'lbfgs', micro_batch = 8", "micro_batch has no effect"),
        ("train = 'head', solver = 'lbfgs', warmup = 0.1", "warmup has no effect"),
        ("train = 'head', solver = 'lbfgs', views = 2", "all versions of an image would be the same"),
        ("train = 'stepwise', solver = 'lbfgs'", "fits the head alone"),
        ("momentum = 0.9", "momentum"),
    ],
)
def test_a_value_without_effect_is_refused(phase: str, said: str) -> None:
    with pytest.raises(RegistryError, match=rf"phases\[0\].*{said}"):
        _load(explicit=f"[recipes.x]\nphases = [{{epochs = 4, {phase}}}]\n")


@pytest.mark.parametrize(
    "phase",
    [
        "mixup = 0.0, cutmix = 0.0, ema = 'none', micro_batch = 'none', layer_decay = 1.0, warmup = 'auto'",
        "patience = 3",
        "schedule = 'plateau', plateau = 2",
        "train = 'head', solver = 'lbfgs', mixup = 0.0, ema = 'none', class_weights = 'balanced', patience = 2",
        "train = 'head', solver = 'lbfgs', augment = 'light', views = 9",
        "train = 'head', augment = 'light', views = 4",
    ],
)
def test_a_value_with_effect_and_one_that_says_none_pass(phase: str) -> None:
    assert _load(explicit=f"[recipes.x]\nphases = [{{epochs = 4, {phase}}}]\n").recipe("x").strict


def test_stepwise_needs_more_than_one_epoch() -> None:
    with pytest.raises(RegistryError, match="make epochs 2 or more"):
        _load(explicit="[recipes.x]\nphases = [{epochs = 1, train = 'stepwise'}]\n")


def test_what_ships_suits_every_model_and_what_replaces_it_is_the_users() -> None:
    assert not _load().recipe("lp-ft").strict
    assert _load(explicit="[recipes.lp-ft]\nphases = [{epochs = 4}]\n").recipe("lp-ft").strict


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() else f"\\U{ord(c):08x}" for c in value) + '"'
    return repr(value)


def _load(**texts: str) -> Registry:
    """Lay texts over each other: user, found in the working directory, explicit."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        home = Path(folder)
        patch.setenv("XDG_CONFIG_HOME", str(home))
        places = {"user": home / "zoo/registry.toml", "found": home / "work/registry.toml", "explicit": home / "e.toml"}
        for name, path in places.items():
            path.parent.mkdir(exist_ok=True)
            if name in texts:
                path.write_text(texts[name], encoding="utf-8")
        explicit = places["explicit"] if "explicit" in texts else None
        return load_registry(explicit, working_folder=home / "work")


@given(st.lists(PHASES, min_size=1, max_size=3))
def test_phases_survive_being_written_and_read(phases: list[Phase]) -> None:
    text = _toml([phase_data(phase) for phase in phases])
    assert _load(explicit=f"[recipes.x]\nphases = {text}\n").recipe("x").phases == tuple(phases)
    for phase in phases:
        validate_phase(phase, "it")


def _outcome(action: Callable[[], str]) -> str:
    try:
        return action()
    except RegistryError as error:
        return str(error)


_KEYS = st.sampled_from(
    [
        "schema",
        "discovery",
        "presets",
        "plugins",
        "recipes",
        "allow",
        "deny",
        "base",
        "weights",
        "phases",
        "epochs",
        "x",
    ]
) | st.text(st.characters(codec="utf-8"), max_size=6)
_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_whatever_a_file_holds_it_is_decoded_or_refused_as_a_registry(content: dict[str, object]) -> None:
    text = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in content.items())
    outcome = _outcome(lambda: json.dumps(_load(explicit=text).explain(), allow_nan=False))
    assert outcome.isprintable()
    assert "e.toml" in outcome


@given(st.binary(max_size=60))
def test_whatever_bytes_a_file_holds_it_is_decoded_or_refused_as_a_registry(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "any.toml")
        path.write_bytes(content)
        assert "any.toml" in _outcome(lambda: str(load_registry(path, working_folder=Path(folder)).files))


LAYER = st.fixed_dictionaries(
    {"deny": st.lists(NAMES, max_size=3), "presets": st.dictionaries(NAMES, NAMES, max_size=3)}
)


@given(user=LAYER, found=LAYER, explicit=LAYER)
def test_layers_decide_key_by_key(user: dict, found: dict, explicit: dict) -> None:  # type: ignore[type-arg]
    layers = {"user": user, "found": found, "explicit": explicit}
    texts = {
        place: f"[discovery]\ndeny = {_toml(layer['deny'])}\n"
        + "".join(f'[presets."{name}"]\nbase = "{place}/{base}"\n' for name, base in layer["presets"].items())
        for place, layer in layers.items()
    }
    registry = _load(**texts)
    shipped = load_registry(working_folder=Path("/nowhere")).presets
    expected = {name: preset.base for name, preset in shipped.items()}
    for place, layer in layers.items():
        expected |= {name: f"{place}/{base}" for name, base in layer["presets"].items()}
    assert {name: preset.base for name, preset in registry.presets.items()} == expected
    assert registry.deny == {*user["deny"], *found["deny"], *explicit["deny"]}
    for name, preset in registry.presets.items():
        path, line = registry.place(f"presets.{name}").rsplit(":", 1)
        place = preset.base.split("/")[0]
        if place in texts:
            assert texts[place].splitlines()[int(line) - 1] == f'[presets."{name}"]'
        assert Path(path) == registry.origin(f"presets.{name}")

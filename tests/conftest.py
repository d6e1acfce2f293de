"""Fixtures for every test: real data where it lies beside the checkout, and a cache folder of the test's own."""

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.delenv("ZOO_REGISTRY", raising=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs beside the checkout."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Real pretrained weights beside the checkout."""
    return _shared("weights")


def _shared(name: str) -> Path:
    folder = _SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the real files in ../shared/{name}, which are not here")
    return folder

"""A tiny real model, quick settings, and one finished run that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.studio import write_config
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    return write_config(tmp_path_factory.mktemp("config") / "stemwright.yaml", models_dir)

"""One endpoint for all tests that leave it as it is; a lock file and a cache of our own."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.endpoint.house import Client, Endpoint, running
from tests.tiny_model import make_tiny_model

LOGGERS = ("", "deployments", "deployments.endpoint", "tasks", "uvicorn")

Runner = Callable[..., AbstractContextManager[Endpoint]]


@pytest.fixture(scope="package", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.setenv("STEMWRIGHT_STATE", str(home / "state"))
        # The device's lock is there: nobody else's separation keeps ours waiting.
        patch.setattr(tempfile, "tempdir", str(home))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """As it was: the command sets it up for a process of its own."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.fixture(scope="package")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_model(tmp_path_factory.mktemp("models"))
    return make_tiny_model(folder, "duo", seed=3, sources=("vocals", "other"))


@pytest.fixture(scope="package")
def shared(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with running(models_dir, tmp_path_factory.mktemp("data")) as endpoint:
        yield endpoint


@pytest.fixture
def client(shared: Endpoint) -> Client:
    return shared.client


@pytest.fixture
def start(models_dir: Path, tmp_path: Path) -> Runner:
    """Start an endpoint of one's own."""
    return partial(running, models_dir, tmp_path / "data")

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tasks.contracts import IngestPolicy, TrackRef
from tests.sources.server import Site, serving

LOOPBACK = ("127.0.0.0/8", "::1/128")
QUICK = IngestPolicy(
    allow_networks=LOOPBACK,
    stall_timeout_s=0.5,
    timeout_s=20.0,
    max_retries=2,
    requests_per_second_per_host=500.0,
)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as served:
        yield served


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def flac() -> bytes:
    """Two seconds of noise: about 170 kB that can't be compressed away."""
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (44_100, 2))
    buffer = io.BytesIO()
    sf.write(buffer, noise, 44_100, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def url_ref(url: str, title: str = "") -> TrackRef:
    return TrackRef(source=url, kind="url", title=title)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())

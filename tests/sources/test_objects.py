"""fsspec URLs, on its real memory filesystem; faults are put in where the driver reads."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.contracts import TrackRef
from tasks.errors import (
    DiskFull,
    EmptyAudio,
    NetworkError,
    SettingsError,
    SourceMissing,
    SourceRefused,
    SourceUnreadable,
)
from tasks.sources import ingest
from tasks.sources.partial_download import Part
from tests.sources.conftest import QUICK, left_in

ONCE = QUICK.model_copy(update={"max_retries": 0})


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def ref_of(url: str) -> TrackRef:
    return TrackRef(source=url, kind="fsspec")


class Breaking(io.BytesIO):
    """A driver's file whose connection breaks after so many bytes."""

    def __init__(self, data: bytes, after: int, error: Exception) -> None:
        super().__init__(data)
        self.after, self.error = after, error

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.after:
            raise self.error
        return super().read(min(size or 0, self.after - self.tell()))


def test_an_object_is_copied_into_scratch(
    store: MemoryFileSystem, scratch: Path, flac: bytes
) -> None:
    store.pipe("/bucket/a.flac", flac)
    got = ingest(ref_of("memory://bucket/a.flac"), scratch, QUICK)
    assert got.path == scratch / "source.flac"
    assert got.path.read_bytes() == flac
    assert got.in_scratch
    assert got.fingerprint.startswith(f"{len(flac)}-")
    assert left_in(scratch) == ["source.flac"]


def test_a_broken_copy_goes_on_where_it_stopped(
    store: MemoryFileSystem, scratch: Path, flac: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe("/bucket/a.flac", flac)
    whole, starts = MemoryFileSystem.open, []

    class Watched(io.BytesIO):
        def seek(self, position: int, whence: int = 0) -> int:
            starts.append(position)
            return super().seek(position, whence)

    def opened(self: Any, path: str, mode: str = "rb", **options: Any) -> Any:
        data = whole(self, path, mode, **options).getvalue()
        return Watched(data) if starts else Breaking(data, 50_000, ConnectionError("reset"))

    monkeypatch.setattr(MemoryFileSystem, "open", opened)
    with pytest.raises(NetworkError, match="reset"):
        ingest(ref_of("memory://bucket/a.flac"), scratch, ONCE)
    assert (scratch / "source.part").stat().st_size == 50_000
    starts.append(-1)
    assert ingest(ref_of("memory://bucket/a.flac"), scratch, ONCE).path.read_bytes() == flac
    assert starts == [-1, 50_000]


def test_a_part_of_a_changed_object_is_thrown_away(
    store: MemoryFileSystem, scratch: Path, flac: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe("/bucket/a.flac", b"old" * 30_000)
    with monkeypatch.context() as patch:
        patch.setattr(
            MemoryFileSystem,
            "open",
            lambda self, path, mode="rb", **_: Breaking(b"old" * 30_000, 1000, OSError("cut")),
        )
        with pytest.raises(NetworkError):
            ingest(ref_of("memory://bucket/a.flac"), scratch, ONCE)
    store.pipe("/bucket/a.flac", flac)
    assert ingest(ref_of("memory://bucket/a.flac"), scratch, ONCE).path.read_bytes() == flac


def test_what_cannot_be_copied_says_why(store: MemoryFileSystem, scratch: Path) -> None:
    store.pipe("/bucket/empty.flac", b"")
    store.pipe("/bucket/big.flac", b"x" * 2000)
    small = QUICK.model_copy(update={"max_bytes": 1000})
    for name, error, says in (
        ("none.flac", SourceMissing, "no such object"),
        ("empty.flac", EmptyAudio, "0 bytes"),
        ("big.flac", SourceRefused, "2,000.*limit of 1,000"),
        ("", SourceRefused, "a folder"),
    ):
        with pytest.raises(error, match=says):
            ingest(ref_of(f"memory://bucket/{name}"), scratch, small)
        assert left_in(scratch) == []


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (PermissionError("Forbidden"), SourceUnreadable),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate"), SourceUnreadable),
        (TimeoutError("slow"), NetworkError),
        (RuntimeError("vendor's own"), NetworkError),
    ],
)
def test_a_drivers_exceptions_are_ours(
    store: MemoryFileSystem,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    error: type[Exception],
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(MemoryFileSystem, "info", refuse)
    with pytest.raises(error, match=str(raised)):
        ingest(ref_of("memory://bucket/a.flac"), scratch, ONCE)


def test_a_full_disk_says_so(
    store: MemoryFileSystem, scratch: Path, flac: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    store.pipe("/bucket/a.flac", flac)
    monkeypatch.setattr(Part, "open", lambda part: Full())
    with pytest.raises(DiskFull):
        ingest(ref_of("memory://bucket/a.flac"), scratch, QUICK)
    assert left_in(scratch) == []


def test_a_missing_driver_names_its_package(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(SettingsError) as caught:
        ingest(ref_of("s3://bucket/a.flac"), scratch, QUICK)
    assert "pip install s3fs" in caught.value.remedy


def test_an_unknown_scheme_and_offline_are_refused(scratch: Path) -> None:
    with pytest.raises(SourceRefused, match="nonsense://"):
        ingest(ref_of("nonsense://a.flac"), scratch, QUICK)
    with pytest.raises(SourceRefused, match="offline"):
        ingest(ref_of("s3://b/a.flac"), scratch, QUICK.model_copy(update={"offline": True}))


def test_a_scheme_that_may_lead_inside_is_refused_with_private_addresses(scratch: Path) -> None:
    policy = QUICK.model_copy(update={"allow_private_addresses": False})
    for url in ("sftp://10.0.0.1/a.flac", "simplecache::http://10.0.0.1/a.flac"):
        with pytest.raises(SourceRefused, match="private address"):
            ingest(ref_of(url), scratch, policy)

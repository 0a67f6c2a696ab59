"""Files over HTTP: what comes whole, what is resumed, and what each broken answer is called."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts import IngestPolicy
from tasks.errors import (
    DiskFull,
    EmptyAudio,
    NetworkError,
    RateLimited,
    ServiceError,
    SourceMissing,
    SourceRefused,
    SourceUnreadable,
    StemwrightError,
)
from tasks.sources import ingest
from tasks.sources.partial_download import Part
from tests.sources import server
from tests.sources.conftest import QUICK, left_in, url_ref
from tests.sources.server import Answer, Site

ONCE = QUICK.model_copy(update={"max_retries": 0})


def test_a_file_arrives_whole_under_a_fixed_name(site: Site, scratch: Path, flac: bytes) -> None:
    url = site.on("/etc/passwd.flac", server.file(flac))
    got = ingest(url_ref(url, title="../../etc/passwd"), scratch, QUICK)
    assert got.path == scratch / "source.flac"
    assert got.path.read_bytes() == flac
    assert (got.in_scratch, got.bytes, got.fingerprint) == (True, len(flac), '"v1"')
    assert left_in(scratch) == ["source.flac"]
    assert len(site.requests) == 1


def test_a_reset_in_the_middle_is_resumed_with_a_range(
    site: Site, scratch: Path, flac: bytes
) -> None:
    url = site.on("/a.flac", server.file(flac, cut=50_000), server.file(flac))
    assert ingest(url_ref(url), scratch, QUICK).path.read_bytes() == flac
    first, second = site.ranges("/a.flac")
    assert (first, second) == ("", "bytes=50000-")
    assert site.requests[1][1]["if-range"] == '"v1"'


def test_a_stall_is_resumed_with_a_range(site: Site, scratch: Path, flac: bytes) -> None:
    url = site.on("/a.flac", server.file(flac, cut=30_000, stall=True), server.file(flac))
    assert ingest(url_ref(url), scratch, QUICK).path.read_bytes() == flac
    assert site.ranges("/a.flac") == ["", "bytes=30000-"]


def test_what_a_killed_download_left_is_resumed_in_the_next_run(
    site: Site, scratch: Path, flac: bytes
) -> None:
    url = site.on("/a.flac", server.file(flac, cut=40_000), server.file(flac))
    with pytest.raises(NetworkError):
        ingest(url_ref(url), scratch, ONCE)
    assert left_in(scratch) == ["source.part", "source.part.json"]
    assert ingest(url_ref(url), scratch, ONCE).path.read_bytes() == flac
    assert site.ranges("/a.flac") == ["", "bytes=40000-"]
    assert left_in(scratch) == ["source.flac"]


def test_a_part_of_another_version_is_thrown_away(site: Site, scratch: Path, flac: bytes) -> None:
    other = b"x" * len(flac)
    url = site.on("/a.flac", server.file(other, cut=40_000), server.file(flac, etag='"v2"'))
    got = ingest(url_ref(url), scratch, QUICK)
    assert got.path.read_bytes() == flac
    assert got.fingerprint == '"v2"'


def test_a_part_of_another_url_is_not_continued(site: Site, scratch: Path, flac: bytes) -> None:
    broken = site.on("/b.flac", server.file(b"y" * 90_000, cut=40_000))
    with pytest.raises(NetworkError):
        ingest(url_ref(broken), scratch, ONCE)
    url = site.on("/a.flac", server.file(flac))
    assert ingest(url_ref(url), scratch, ONCE).path.read_bytes() == flac
    assert site.ranges("/a.flac") == [""]


def test_a_server_without_marks_is_resumed_by_its_size(
    site: Site, scratch: Path, flac: bytes
) -> None:
    url = site.on("/a.flac", server.file(flac, etag="", cut=50_000), server.file(flac, etag=""))
    assert ingest(url_ref(url), scratch, QUICK).path.read_bytes() == flac
    assert site.ranges("/a.flac")[1] == "bytes=50000-"


def test_a_part_that_is_already_whole_needs_no_more_bytes(
    site: Site, scratch: Path, flac: bytes
) -> None:
    url = site.on("/a.flac", server.file(flac, cut=len(flac) - 1), server.file(flac))
    with pytest.raises(NetworkError):
        ingest(url_ref(url), scratch, ONCE)
    with Part(scratch, url).path.open("ab") as part:
        part.write(flac[-1:])
    assert ingest(url_ref(url), scratch, ONCE).path.read_bytes() == flac
    assert site.ranges("/a.flac")[1] == f"bytes={len(flac)}-"


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (server.status(404), SourceMissing, "404"),
        (server.status(410), SourceMissing, "410"),
        (server.status(401), SourceUnreadable, "401"),
        (server.status(403), SourceUnreadable, "403"),
        (server.status(429), RateLimited, "429"),
        (server.status(503), ServiceError, "503"),
        (server.silent, NetworkError, "stalled"),
        (server.file(b""), EmptyAudio, "no bytes"),
        (server.redirect("ftp://example.org/a.mp3"), SourceRefused, "ftp"),
        (server.redirect("/a.mp3"), SourceMissing, "circle"),
    ],
)
def test_each_bad_answer_has_one_name_and_leaves_nothing(
    site: Site, scratch: Path, answer: Answer, error: type[StemwrightError], says: str
) -> None:
    url = site.on("/a.mp3", answer)
    with pytest.raises(error, match=says) as caught:
        ingest(url_ref(url, title="Song"), scratch, ONCE)
    assert (caught.value.stage, caught.value.track) == ("ingest", "Song")
    assert caught.value.remedy or caught.value.retryable
    assert left_in(scratch) == []


def test_what_cannot_pass_is_asked_once(site: Site, scratch: Path) -> None:
    url = site.on("/a.mp3", server.status(404))
    with pytest.raises(SourceMissing):
        ingest(url_ref(url), scratch, QUICK)
    assert len(site.requests) == 1


def test_a_server_that_fails_once_is_asked_again(site: Site, scratch: Path, flac: bytes) -> None:
    url = site.on(
        "/a.flac", server.status(500), server.status(429, Retry_After=0), server.file(flac)
    )
    assert ingest(url_ref(url), scratch, QUICK).path.read_bytes() == flac
    assert len(site.requests) == 3


def test_a_long_retry_after_is_handed_to_the_caller_at_once(site: Site, scratch: Path) -> None:
    url = site.on("/a.mp3", server.status(429, Retry_After=120))
    with pytest.raises(RateLimited) as caught:
        ingest(url_ref(url), scratch, QUICK)
    assert caught.value.retry_after_s == 120
    assert len(site.requests) == 1


@pytest.mark.parametrize("url", ["http://[::1/a.mp3", "http:///a.mp3", "http://a b/c.mp3"])
def test_what_is_no_url_is_missing(scratch: Path, url: str) -> None:
    with pytest.raises(SourceMissing):
        ingest(url_ref(url), scratch, ONCE)


def test_a_closed_port_and_an_unknown_host_are_network_faults(scratch: Path) -> None:
    for url in ("http://127.0.0.1:9/a.mp3", "http://no-such-host.invalid/a.mp3"):
        with pytest.raises(NetworkError):
            ingest(url_ref(url), scratch, ONCE)


def test_too_many_bytes_are_refused_before_the_first(
    site: Site, scratch: Path, flac: bytes
) -> None:
    url = site.on("/a.flac", server.file(flac))
    with pytest.raises(SourceRefused, match=f"{len(flac):,}.*limit of 1,000") as caught:
        ingest(url_ref(url), scratch, QUICK.model_copy(update={"max_bytes": 1000}))
    assert "max_bytes" in caught.value.remedy
    assert left_in(scratch) == []


def test_an_endless_body_is_cut_at_the_limit(site: Site, scratch: Path) -> None:
    url = site.on("/a.mp3", server.endless())
    with pytest.raises(SourceRefused, match="limit of 100,000"):
        ingest(url_ref(url), scratch, QUICK.model_copy(update={"max_bytes": 100_000}))
    assert left_in(scratch) == []


def test_an_endless_slow_body_is_cut_at_the_time_limit(site: Site, scratch: Path) -> None:
    url = site.on("/a.mp3", server.endless(pause_s=0.05))
    with pytest.raises(NetworkError, match=r"longer than 0\.6 s") as caught:
        ingest(url_ref(url), scratch, ONCE.model_copy(update={"timeout_s": 0.6}))
    assert "timeout_s" in caught.value.remedy


def test_a_redirect_is_followed(site: Site, scratch: Path, flac: bytes) -> None:
    site.on("/real.flac", server.file(flac))
    url = site.on("/a", server.redirect("/real.flac"))
    assert ingest(url_ref(url), scratch, QUICK).path.read_bytes() == flac


def test_offline_refuses_without_a_request(site: Site, scratch: Path, flac: bytes) -> None:
    url = site.on("/a.flac", server.file(flac))
    with pytest.raises(SourceRefused, match="offline"):
        ingest(url_ref(url), scratch, QUICK.model_copy(update={"offline": True}))
    assert site.requests == []


def test_a_full_disk_says_so_and_frees_its_part(
    site: Site, scratch: Path, flac: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Part, "open", lambda part: Full())
    url = site.on("/a.flac", server.file(flac))
    with pytest.raises(DiskFull):
        ingest(url_ref(url), scratch, QUICK)
    assert left_in(scratch) == []


def test_a_broken_track_does_not_disturb_others(site: Site, tmp_path: Path, flac: bytes) -> None:
    from concurrent.futures import ThreadPoolExecutor

    urls = [site.on(f"/{n}.flac", server.silent if n == 1 else server.file(flac)) for n in range(4)]

    def one(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            return ingest(url_ref(urls[number]), folder, ONCE).path.read_bytes().hex()
        except StemwrightError as error:
            return type(error).__name__

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [
            flac.hex(), "NetworkError", flac.hex(), flac.hex(),
        ]  # fmt: skip


def test_the_policy_defaults_are_usable(site: Site, scratch: Path, flac: bytes) -> None:
    url = site.on("/a.flac", server.file(flac))
    assert ingest(url_ref(url), scratch, IngestPolicy(allow_hosts=("127.0.0.1",))).bytes == len(
        flac
    )

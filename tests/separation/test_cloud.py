"""The cloud path against a real socket: nothing is lost to a service that falters, and nothing
that it sends is believed unseen."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.contracts import STEMS, Mixture, SeparationJob, SeparationSettings
from tasks.errors import (
    DeadlineMissed,
    Interrupted,
    KeyRejected,
    NetworkError,
    NotAudio,
    ProtocolError,
    RateLimited,
    ServiceError,
    SettingsError,
    SourceMissing,
    SourceRefused,
    StemwrightError,
)
from tasks.net.retries import RetryPolicy, retry_after_s
from tasks.separation import CloudEngine, SeparationApi
from tasks.separation.cloud import make_provider
from tasks.separation.request import Callbacks, SeparationRequest
from tests.separation.conftest import MixtureMaker
from tests.separation.loopback import KEY, Answer, LoopbackService, as_json, serve

FLAC = SeparationSettings(model="htdemucs")
# The waits are real, so the longest is a few milliseconds.
HASTY = RetryPolicy(max_retries=6, max_backoff_seconds=0.004)
HTML: Answer = (200, {"content-type": "text/html"}, b"<html><body>Welcome to the proxy</body>")
HANG_UP: Answer = (0, {}, b"")


@pytest.fixture
def service() -> Iterator[LoopbackService]:
    with serve() as running:
        yield running


@pytest.fixture
def mixture(make_mixture: MixtureMaker) -> Mixture:
    return make_mixture(seconds=0.4)


_opened: list[CloudEngine] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def cloud(service: LoopbackService, policy: RetryPolicy = HASTY, key: str = KEY) -> CloudEngine:
    stemwright = make_provider("stemwright", base_url=service.base_url, api_key=key)
    _opened.append(CloudEngine("htdemucs", provider=stemwright, policy=policy))
    return _opened[-1]


def test_stems_come_home_whole(service: LoopbackService, mixture: Mixture, tmp_path: Path) -> None:
    shares: list[float] = []
    found = cloud(service).separate(
        SeparationRequest(
            mixture, tmp_path / "s", FLAC, callbacks=Callbacks(on_progress=shares.append)
        )
    )
    assert tuple(found.stems) == found.expected == STEMS
    whole = soundfile.read(mixture.path)[0]
    for path in found.stems.values():
        assert np.abs(soundfile.read(path)[0] - whole / 4).max() < 2**-22
    assert (found.engine, found.provider, found.gain) == ("cloud", "stemwright", 1.0)
    assert found.stem_origins == dict.fromkeys(STEMS, "stemwright")
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == sorted(
        f"{name}.flac" for name in STEMS
    )


def test_what_is_submitted(service: LoopbackService, mixture: Mixture, tmp_path: Path) -> None:
    cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    sent = service.requests[0]
    assert sent.fields["audio"] == mixture.path.read_bytes()
    assert (sent.fields["stems"], sent.fields["format"]) == (b"4", b"flac")
    assert sent.fields["model"] == b"htdemucs"
    assert sent.headers["idempotency-key"]


def test_missing_stems_are_asked_for_once_more(
    service: LoopbackService, mixture: Mixture, tmp_path: Path
) -> None:
    def healed(name: str, body: bytes) -> bytes:
        service.leave_out = set()
        return body

    service.leave_out, service.spoil = {"bass"}, healed
    found = cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert tuple(found.stems) == found.expected == STEMS
    assert [job.fields["stems"] for job in service.jobs.values()] == [b"4", b"bass"]


def test_what_is_missing_twice_is_left_for_validation_and_paid_no_third_time(
    service: LoopbackService, mixture: Mixture, tmp_path: Path
) -> None:
    service.leave_out = {"bass"}
    separator = cloud(service)
    found = separator.separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert found.expected == STEMS
    assert set(found.stems) == {"drums", "other", "vocals"}
    only = frozenset({"bass"})
    assert not separator.separate(
        SeparationRequest(mixture, tmp_path, FLAC, only=only, gain=found.gain)
    ).stems
    assert [job.fields["stems"] for job in service.jobs.values()] == [b"4", b"bass"]
    # Another run may find the service mended.
    service.leave_out = set()
    assert list(
        cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC, only=only)).stems
    ) == ["bass"]


@pytest.mark.parametrize("stems", [{}, None])
def test_complete_without_stems_is_asked_once_more_and_then_named(
    service: LoopbackService, mixture: Mixture, tmp_path: Path, stems: object
) -> None:
    empty = as_json(200, {"job_id": "x", "status": "complete", "stems": stems})
    service.planned["GET jobs"] = [empty]
    assert len(cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC)).stems) == 4
    assert len(service.jobs) == 2
    service.planned["GET jobs"] = [empty, empty]
    with pytest.raises(ProtocolError, match="names no stems"):
        cloud(service).separate(SeparationRequest(renamed(mixture), tmp_path, FLAC))
    assert len(service.jobs) == 4


def renamed(mixture: Mixture) -> Mixture:
    return mixture.model_copy(update={"track_id": "fedcba9876543210"})


def cut(body: bytes) -> bytes:
    return body[: len(body) // 2]


def other_length(body: bytes) -> bytes:
    samples, rate = soundfile.read(io.BytesIO(body))
    return encoded(samples[:-100], rate)


def other_rate(body: bytes) -> bytes:
    return encoded(soundfile.read(io.BytesIO(body))[0], 48_000)


def mono(body: bytes) -> bytes:
    samples, rate = soundfile.read(io.BytesIO(body))
    return encoded(samples[:, 0], rate)


def lossy(body: bytes) -> bytes:
    samples, rate = soundfile.read(io.BytesIO(body))
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="OGG")
    return out.getvalue()


def page(body: bytes) -> bytes:
    return b"<html>Not found</html>"


def flood(body: bytes) -> bytes:
    return body + bytes(1 << 20)


def encoded(samples: object, rate: int, format: str = "FLAC") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, subtype="PCM_24", format=format)
    return out.getvalue()


@pytest.mark.parametrize("spoil", [cut, other_length, other_rate, mono, lossy, page, flood])
def test_a_stem_that_is_not_sound_does_not_count(
    service: LoopbackService, mixture: Mixture, tmp_path: Path, spoil: object
) -> None:
    service.spoil = lambda name, body: spoil(body) if name == "vocals" else body  # type: ignore[operator]
    found = cloud(service).separate(SeparationRequest(mixture, tmp_path / "s", FLAC))
    assert set(found.stems) == {"drums", "bass", "other"}
    assert len(list((tmp_path / "s").iterdir())) == 3
    # Its URL was asked for again, and then a job for this stem alone.
    assert [job.fields["stems"] for job in service.jobs.values()] == [b"4", b"vocals"]


def test_another_lossless_format_is_put_into_ours(
    service: LoopbackService, mixture: Mixture, tmp_path: Path
) -> None:
    def as_wav(name: str, body: bytes) -> bytes:
        samples, rate = soundfile.read(io.BytesIO(body))
        return encoded(samples, rate, "WAV")

    service.spoil = as_wav
    found = cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    whole = soundfile.read(mixture.path)[0]
    for path in found.stems.values():
        info = soundfile.info(path)
        assert (info.format, info.subtype) == ("FLAC", "PCM_24")
        assert np.abs(soundfile.read(path)[0] - whole / 4).max() < 2**-22


@pytest.mark.parametrize(
    "fault",
    [
        as_json(500, {"detail": "oops"}),
        as_json(503, {"detail": "busy"}, retry_after="0"),
        as_json(429, {"detail": "queue full"}, retry_after="0"),
        HANG_UP,
    ],
)
@pytest.mark.parametrize("where", ["POST separate", "GET jobs", "GET stems"])
def test_what_passes_is_tried_again_and_paid_once(
    service: LoopbackService, mixture: Mixture, tmp_path: Path, where: str, fault: Answer
) -> None:
    service.planned[where] = [fault, fault]
    found = cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert len(found.stems) == 4
    assert len(service.jobs) == 1
    posts = [request for request in service.requests if request.method == "POST"]
    assert len({request.headers["idempotency-key"] for request in posts}) == 1
    assert len(posts) == (3 if where == "POST separate" else 1)


@pytest.mark.parametrize("where", ["POST separate", "GET jobs"])
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (as_json(401, {"detail": "bad key"}), KeyRejected, "401: bad key"),
        (as_json(403, {}), KeyRejected, "403"),
        (as_json(413, {"detail": "over 1 GB"}), SourceRefused, "413: over 1 GB"),
        (as_json(415, {}), NotAudio, "no audio"),
        (HTML, ProtocolError, "text/html where a job.*Welcome to the proxy"),
        ((200, {}, b'{"job_id": "x", "sta'), ProtocolError, r"begins '\{\"job_id"),
        (as_json(200, {"job_id": "x", "status": "pondering"}), ProtocolError, "status of the job"),
        (as_json(200, {"job_id": "x"}), ProtocolError, "status of the job"),
        (as_json(200, {"job_id": 7, "status": "queued"}), ProtocolError, "job_id of the job"),
        (as_json(200, [1]), ProtocolError, "the whole of the job.*an object"),
        (as_json(422, {"detail": "no such model"}), SettingsError, "422: no such model"),
        ((302, {"location": "http://127.0.0.1:9/"}, b""), ProtocolError, "status 302"),
        ((200, {}, b" " * (2 << 20)), ProtocolError, "over 1048576 bytes"),
        (
            as_json(200, {"job_id": "x", "status": "failed", "error_message": "too quiet"}),
            ServiceError,
            "failed: too quiet",
        ),
    ],
)
def test_what_cannot_pass_ends_at_once(
    service: LoopbackService,
    mixture: Mixture,
    tmp_path: Path,
    where: str,
    answer: Answer,
    error: type[StemwrightError],
    words: str,
) -> None:
    service.planned[where] = [answer]
    with pytest.raises(error, match=words) as caught:
        cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert service.count(where) == 1
    assert (caught.value.stage, caught.value.track) == ("separate", "Ensemble – song")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (as_json(404, {"detail": "gone"}), "404: gone"),
        (as_json(202, {"job_id": "../..", "status": "queued"}), "fits no URL"),
        (as_json(202, {"job_id": "", "status": "queued"}), "job_id of the job"),
    ],
)
def test_a_submit_that_makes_no_job_ends_at_once(
    service: LoopbackService, mixture: Mixture, tmp_path: Path, answer: Answer, words: str
) -> None:
    service.planned["POST separate"] = [answer]
    with pytest.raises(ProtocolError, match=words):
        cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert [request.method for request in service.requests] == ["POST"]


def test_a_storm_ends_with_the_fault_itself(
    service: LoopbackService, mixture: Mixture, tmp_path: Path
) -> None:
    service.planned["POST separate"] = [as_json(503, {"detail": "down"})] * 9
    with pytest.raises(ServiceError, match="503: down"):
        cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert service.count("POST separate") == HASTY.max_retries


def test_a_job_that_never_ends(service: LoopbackService, mixture: Mixture, tmp_path: Path) -> None:
    service.planned["GET jobs"] = [as_json(200, {"job_id": "x", "status": "queued"})] * 50
    with pytest.raises(DeadlineMissed, match="asked for 6 times"):
        cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert service.count("GET jobs") == 6
    patient = RetryPolicy(max_retries=1000, max_backoff_seconds=60)
    with pytest.raises(DeadlineMissed, match=r"0\.05 s ran out"):
        cloud(service, patient).separate(
            SeparationRequest(mixture, tmp_path, FLAC, deadline_s=0.05)
        )


def test_a_long_queue_isnt_a_stuck_job(
    service: LoopbackService, mixture: Mixture, tmp_path: Path
) -> None:
    """Sixteen tracks on one slow machine: the last is asked for far over `max_retries` times."""
    service.planned["GET jobs"] = [
        as_json(200, {"job_id": "x", "status": "queued", "queue_position": place, "progress": 0})
        for place in range(15, 0, -1)
        for _ in range(4)
    ]
    found = cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert tuple(found.stems) == STEMS
    assert service.count("GET jobs") == 60 + 2
    assert service.count("POST separate") == 1


def test_other_services_may_mean_something_else_by_our_extra_fields(
    service: LoopbackService, mixture: Mixture, tmp_path: Path
) -> None:
    service.more = {"absent": None, "cost_usd": "free", "progress": "done", "queue_position": {}}
    found = cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert (tuple(found.stems), found.cost_usd) == (STEMS, 0.0)


def test_stop_ends_the_wait(service: LoopbackService, mixture: Mixture, tmp_path: Path) -> None:
    service.planned["GET jobs"] = [as_json(200, {"job_id": "x", "status": "queued"})] * 50
    patient = RetryPolicy(max_retries=1000, max_backoff_seconds=0.01)
    with pytest.raises(Interrupted):
        cloud(service, patient).separate(
            SeparationRequest(
                mixture,
                tmp_path,
                FLAC,
                callbacks=Callbacks(stopping=lambda: service.count("GET jobs") >= 3),
            )
        )


def test_retry_after_is_obeyed(service: LoopbackService, mixture: Mixture, tmp_path: Path) -> None:
    service.planned["POST separate"] = [as_json(429, {}, retry_after="7200")]
    # The service wants two hours: it isn't asked again, and whoever is next has the time.
    with pytest.raises(RateLimited) as caught:
        cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert (caught.value.retry_after_s, caught.value.submitted) == (7200, False)
    service.planned["POST separate"] = [as_json(503, {}, retry_after="100")]
    with pytest.raises(ServiceError):
        cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC, deadline_s=60))
    assert service.count("POST separate") == 2


def test_nobody_answers(mixture: Mixture, tmp_path: Path) -> None:
    with serve() as gone:
        pass
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1"):
        cloud(gone).separate(SeparationRequest(mixture, tmp_path, FLAC))


def test_the_key_goes_to_its_own_origin_alone(
    service: LoopbackService, mixture: Mixture, tmp_path: Path
) -> None:
    with serve() as elsewhere:
        elsewhere.jobs = service.jobs
        service.stems_at = elsewhere.base_url
        found = cloud(service).separate(SeparationRequest(mixture, tmp_path / "a", FLAC))
        assert len(found.stems) == 4
        assert [request.headers["authorization"] for request in elsewhere.requests] == [None] * 4
        service.stems_at = ""
        away = (302, {"location": f"{elsewhere.base_url}/stems/none/bass.flac"}, b"")
        service.planned["GET stems"] = [away]
        elsewhere.planned["GET stems"] = [as_json(404, {})]
        cloud(service).separate(SeparationRequest(mixture, tmp_path / "b", FLAC))
        assert elsewhere.requests[-1].headers["authorization"] is None
    own = [r.headers["authorization"] for r in service.requests if "/stems/" in r.path]
    assert set(own) == {f"Bearer {KEY}"}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x.flac", "//h/x", "http://[", ""])
def test_only_http_is_fetched(service: LoopbackService, tmp_path: Path, url: str) -> None:
    from tasks.separation.cloud.downloads import Download

    async def fetch() -> None:
        async with SeparationApi(service.base_url, KEY, policy=HASTY) as api:
            await api.download(url, tmp_path / "x.flac", Download())

    with pytest.raises(ProtocolError):
        asyncio.run(fetch())
    assert not service.requests


def test_a_wrong_key_is_named_and_the_key_never_shown(
    service: LoopbackService, mixture: Mixture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    separator = cloud(service, key="sk-wrong-secret")
    with caplog.at_level(logging.DEBUG), pytest.raises(KeyRejected) as caught:
        separator.separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert "engine.api_key" in str(caught.value)
    shown = caplog.text + str(caught.value) + repr(separator) + repr(vars(separator))
    assert "secret" not in shown


def test_waits_grow_are_capped_and_drawn_below_their_ceiling() -> None:
    policy = RetryPolicy(backoff_multiplier=1.5, max_backoff_seconds=30)
    ceilings = [policy.ceiling_s(attempt) for attempt in range(12)]
    assert ceilings[:3] == [1.0, 1.5, 2.25]
    assert ceilings[-1] == policy.ceiling_s(100_000) == 30
    waits = [policy.wait_s(5) for _ in range(300)]
    assert 0 <= min(waits) < 0.3 * policy.ceiling_s(5)
    assert 0.7 * policy.ceiling_s(5) < max(waits) <= policy.ceiling_s(5)
    assert policy.wait_s(0, retry_after_s=42) == 42


def test_retry_after_in_both_forms() -> None:
    now = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s("17") == 17
    assert retry_after_s(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90
    assert retry_after_s(format_datetime(now - timedelta(days=1), usegmt=True), now) == 0
    assert retry_after_s("soon") is None
    # Digits that aren't ASCII, and a time zone beyond any.
    assert retry_after_s("\u00b2") is None
    assert retry_after_s("Mon, 01 Jan 2024 00:00:00 +99999999999999") is None
    assert retry_after_s(None) is None


def test_rate_limits_carry_what_was_asked(service: LoopbackService) -> None:
    async def ask() -> None:
        async with SeparationApi(service.base_url, KEY) as api:
            await api.ask("some-job")

    service.planned["GET jobs"] = [as_json(429, {"detail": "slow down"}, retry_after="31")]
    with pytest.raises(RateLimited, match="slow down") as caught:
        asyncio.run(ask())
    assert caught.value.retry_after_s == 31


def test_a_file_that_is_gone(service: LoopbackService, mixture: Mixture, tmp_path: Path) -> None:
    mixture.path.unlink()
    with pytest.raises(SourceMissing):
        cloud(service).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert not service.requests


def test_base_url_has_to_be_one() -> None:
    with pytest.raises(SettingsError, match=r"engine\.base_url"):
        SeparationApi("stems.example.com/v1")


def test_one_loop_waits_for_many_jobs_without_stalling(service: LoopbackService) -> None:
    async def main() -> int:
        ticks = 0
        async with SeparationApi(service.base_url, KEY, policy=HASTY) as api:
            jobs = [SeparationJob(job_id=f"job{n}", status="queued") for n in range(20)]
            service.jobs = {job.job_id: fake for job in jobs}
            waiting = asyncio.gather(*(api.wait(job) for job in jobs))
            while not waiting.done():
                ticks += 1
                await asyncio.sleep(0.001)
            assert {job.status for job in await waiting} == {"complete"}
        return ticks

    from email.message import Message

    from tests.separation.loopback import Request

    fake = Request("POST", "/v1/separate", Message(), {"stems": b"4", "format": b"wav"})
    assert asyncio.run(main()) > 5

"""What goes wrong at a service, row by row, on a real socket.

Each row says what the user gets, how many requests of which kind were made, and how many jobs the
service accepted, which is what is paid for. Then the service is well again and the same command is
run anew: its stems show that nothing was lost, the count of jobs that nothing was paid twice.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tasks.contracts import STEMS, Mixture, SeparationSettings, StemSet
from tasks.errors import (
    DeadlineMissed,
    KeyRejected,
    NetworkError,
    ProtocolError,
    ServiceError,
    StemwrightError,
)
from tasks.net.retries import RetryPolicy
from tasks.separation.cloud import CloudEngine, Timeouts, make_provider
from tasks.separation.cloud.origins import AddressRefused
from tasks.separation.request import SeparationRequest
from tests.separation.conftest import make_mixture
from tests.separation.loopback import (
    KEY,
    Answer,
    LoopbackService,
    Misdeed,
    Request,
    as_json,
    drip,
    hang_up,
    kind_of,
    reset,
    serve,
    torn,
)

__all__ = ["make_mixture"]

FLAC = SeparationSettings(model="htdemucs")
# A second's wait takes ten milliseconds.
HASTY = RetryPolicy(max_retries=6, max_backoff_seconds=0.01)
USUAL = Timeouts()
# For a service that dawdles; far above what a busy machine takes for an honest answer.
TIGHT = Timeouts(answer_s=1.5, grace_s=1.0, least_bytes_per_s=100_000)
SUBMIT, ASK, STEM = "POST separate", "GET jobs", "GET stems"

HTML: Answer = (200, {"content-type": "text/html"}, b"<html>Welcome to the proxy</html>")
QUEUED = as_json(200, {"job_id": "x", "status": "queued"})
EMPTY = as_json(200, {"job_id": "x", "status": "complete", "stems": {}})
TO_PRIVATE: Answer = (302, {"location": "http://10.0.0.1/stem.flac"}, b"")
TO_METADATA: Answer = (302, {"location": "http://169.254.169.254/latest"}, b"")
BUSY = as_json(503, {"detail": "busy"})


@dataclass(frozen=True)
class Row:
    """What the service does, what the user gets, and what it took.

    `requests` are submits, asks and stems of the first run; `jobs` are those accepted by then, and
    `jobs_in_all` after a second run against a service that is well.
    """

    planned: dict[str, list[Answer | Misdeed]] = field(default_factory=dict)
    error: type[StemwrightError] | None = None
    words: str = ""
    stems: int = 4
    requests: tuple[int, int, int] = (1, 2, 4)
    jobs: int = 1
    jobs_in_all: int = 1
    leave_out: frozenset[str] = frozenset()
    spoil: Callable[[str, bytes], bytes] | None = None
    key: str = KEY
    deadline_s: float | None = None
    policy: RetryPolicy = HASTY
    timeouts: Timeouts = USUAL


def spoilt(
    name: str, change: Callable[[bytes], bytes], times: int
) -> Callable[[str, bytes], bytes]:
    left = [times]

    def spoil(stem: str, body: bytes) -> bytes:
        if stem != name or not left[0]:
            return body
        left[0] -= 1
        return change(body)

    return spoil


def shorter(body: bytes) -> bytes:
    samples, rate = soundfile.read(io.BytesIO(body))
    out = io.BytesIO()
    soundfile.write(out, samples[:-441], rate, subtype="PCM_24", format="FLAC")
    return out.getvalue()


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def page(body: bytes) -> bytes:
    return b"<html>Sorry</html>"


ROWS: dict[str, Row] = {
    "reset mid-upload": Row({SUBMIT: [reset]}, requests=(2, 2, 4)),
    "hangs up on a submit": Row({SUBMIT: [hang_up]}, requests=(2, 2, 4)),
    "hangs up on an ask": Row({ASK: [hang_up]}, requests=(1, 3, 4)),
    "reset mid-download": Row({STEM: [reset, reset]}, requests=(1, 2, 6)),
    "half a stem, then a reset": Row(
        {STEM: [torn((200, {"content-type": "audio/flac"}, b"fLaC" * 9999))]}, requests=(1, 2, 5)
    ),
    "500 then fine, at the submit": Row({SUBMIT: [as_json(500, {})]}, requests=(2, 2, 4)),
    "500 then fine, at an ask": Row({ASK: [as_json(500, {})]}, requests=(1, 3, 4)),
    "500 then fine, at a stem": Row({STEM: [as_json(500, {})]}, requests=(1, 2, 5)),
    "503 storm at the submit": Row(
        {SUBMIT: [BUSY] * 6}, ServiceError, "503: busy", requests=(6, 0, 0), jobs=0
    ),
    "503 storm at the asks": Row({ASK: [BUSY] * 6}, ServiceError, "503: busy", requests=(1, 6, 0)),
    "503 storm at the stems": Row({STEM: [BUSY] * 99}, ServiceError, "503: busy", 0, (1, 2, -1)),
    "slow-loris answer to a submit": Row({SUBMIT: [drip]}, timeouts=TIGHT, requests=(2, 2, 4)),
    "slow-loris answer to an ask": Row({ASK: [drip]}, timeouts=TIGHT, requests=(1, 3, 4)),
    "slow-loris stem": Row({STEM: [drip]}, timeouts=TIGHT, requests=(1, 2, 5)),
    "never completes, within max_retries": Row(
        {ASK: [QUEUED] * 6}, DeadlineMissed, "asked for 6 times", requests=(1, 6, 0)
    ),
    "never completes, within the deadline": Row(
        {ASK: [QUEUED] * 9999},
        DeadlineMissed,
        "ran out",
        requests=(1, -1, 0),
        deadline_s=2.0,
        policy=RetryPolicy(max_retries=9999, max_backoff_seconds=0.05),
    ),
    "malformed JSON": Row(
        {ASK: [(200, {}, b'{"job_id": "x", "sta')]},
        ProtocolError,
        r"begins '\{\"job_id",
        requests=(1, 1, 0),
    ),
    "HTML for a job": Row(
        {ASK: [HTML]}, ProtocolError, "text/html.*Welcome to the proxy", requests=(1, 1, 0)
    ),
    "wrong types": Row(
        {ASK: [as_json(200, {"job_id": "x", "status": "complete", "stems": [1, 2]})]},
        ProtocolError,
        "stems of the job is not valid",
        requests=(1, 1, 0),
    ),
    "a null where a URL was due": Row(
        {ASK: [as_json(200, {"job_id": "x", "status": "complete", "stems": {"bass": None}})]},
        ProtocolError,
        "stems.bass of the job is not valid",
        requests=(1, 1, 0),
    ),
    "unknown status": Row(
        {ASK: [as_json(200, {"job_id": "x", "status": "pondering"})]},
        ProtocolError,
        "status of the job is not valid",
        requests=(1, 1, 0),
    ),
    "complete without one stem": Row(
        leave_out=frozenset({"bass"}), stems=3, requests=(2, 4, 3), jobs=2, jobs_in_all=2
    ),
    "complete without all": Row(
        {ASK: [EMPTY, EMPTY]},
        ProtocolError,
        "names no stems",
        requests=(2, 2, 0),
        jobs=2,
        jobs_in_all=3,
    ),
    "complete without all, once": Row({ASK: [EMPTY]}, requests=(2, 3, 4), jobs=2, jobs_in_all=2),
    "a stem truncated once": Row(spoil=spoilt("vocals", half, 1), requests=(1, 3, 5)),
    "a stem truncated twice": Row(
        spoil=spoilt("vocals", half, 2), requests=(2, 5, 6), jobs=2, jobs_in_all=2
    ),
    "a stem truncated always": Row(
        spoil=spoilt("vocals", half, 99), stems=3, requests=(2, 6, 7), jobs=2, jobs_in_all=2
    ),
    "a stem of another length": Row(spoil=spoilt("drums", shorter, 1), requests=(1, 3, 5)),
    "a stem that is HTML": Row(spoil=spoilt("other", page, 1), requests=(1, 3, 5)),
    "a stem that is HTML by its type": Row({STEM: [HTML]}, requests=(1, 3, 5)),
    "an expired URL, 403": Row({STEM: [as_json(403, {})]}, requests=(1, 3, 5)),
    "an expired URL, 410": Row({STEM: [as_json(410, {})]}, requests=(1, 3, 5)),
    "a redirect to a private address": Row(
        {STEM: [TO_PRIVATE] * 4}, AddressRefused, r"private address 10\.0\.0\.1", 0, (1, 2, -1)
    ),
    "a redirect to the metadata address": Row(
        {STEM: [TO_METADATA] * 4}, AddressRefused, "link-local address", 0, (1, 2, -1)
    ),
    "key rejected": Row(key="sk-other", error=KeyRejected, words="401", requests=(1, 0, 0), jobs=0),
}


@pytest.fixture
def service() -> Iterator[LoopbackService]:
    with serve() as running:
        yield running


@pytest.fixture
def mixture(make_mixture: Callable[..., Mixture]) -> Mixture:
    return make_mixture(seconds=0.4)


def run(
    base_url: str,
    mixture: Mixture,
    folder: Path,
    *,
    key: str = KEY,
    policy: RetryPolicy = HASTY,
    timeouts: Timeouts = USUAL,
    deadline_s: float | None = None,
    **options: Any,
) -> StemSet:
    """One run of one track, as `separate` makes it."""
    stemwright = make_provider("stemwright", base_url=base_url, api_key=key)
    separator = CloudEngine(
        "htdemucs", provider=stemwright, policy=policy, timeouts=timeouts, **options
    )
    try:
        return separator.separate(SeparationRequest(mixture, folder, FLAC, deadline_s=deadline_s))
    finally:
        separator.close()


def heal(service: LoopbackService) -> None:
    service.planned, service.leave_out = {}, set()
    service.spoil = lambda name, body: body


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_the_row(service: LoopbackService, mixture: Mixture, tmp_path: Path, row: Row) -> None:
    service.planned = {kind: list(answers) for kind, answers in row.planned.items()}
    service.leave_out = set(row.leave_out)
    service.spoil = row.spoil or service.spoil
    named: dict[str, Any] = {"key": row.key, "policy": row.policy, "timeouts": row.timeouts}
    named["deadline_s"] = row.deadline_s
    if row.error:
        with pytest.raises(row.error, match=row.words) as caught:
            run(service.base_url, mixture, tmp_path / "a", **named)
        assert (caught.value.stage, caught.value.track) == ("separate", "Ensemble – song")
        assert KEY not in str(caught.value)
    else:
        found = run(service.base_url, mixture, tmp_path / "a", **named)
        assert len(found.stems) == row.stems
    counts = [service.count(kind) for kind in (SUBMIT, ASK, STEM)]
    due = [is_ if due < 0 else due for is_, due in zip(counts, row.requests, strict=True)]
    assert counts == due
    assert len(service.jobs) == row.jobs
    heal(service)
    again = run(service.base_url, mixture, tmp_path / "b")
    assert tuple(again.stems) == STEMS
    assert len(service.jobs) == row.jobs_in_all
    left = [path.name for path in (tmp_path / "b").iterdir()]
    assert sorted(left) == sorted(f"{name}.flac" for name in STEMS)


def test_connection_refused(mixture: Mixture, tmp_path: Path) -> None:
    with serve() as service:
        pass
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1") as caught:
        run(service.base_url, mixture, tmp_path)
    assert not caught.value.submitted
    with serve(service):
        assert len(run(service.base_url, mixture, tmp_path).stems) == 4
    assert len(service.jobs) == 1


def test_no_such_host(mixture: Mixture, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"service\.invalid: the name can't be") as caught:
        run("https://service.invalid/v1", mixture, tmp_path)
    assert not caught.value.submitted


def test_stems_at_no_such_host(service: LoopbackService, mixture: Mixture, tmp_path: Path) -> None:
    service.stems_at = "https://stems.invalid/v1"
    with pytest.raises(NetworkError, match=r"stems\.invalid"):
        run(service.base_url, mixture, tmp_path / "a")
    service.stems_at = ""
    assert len(run(service.base_url, mixture, tmp_path / "b").stems) == 4
    assert (service.count(SUBMIT), len(service.jobs)) == (1, 1)


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("where", [SUBMIT, ASK])
def test_429_with_retry_after(
    service: LoopbackService, mixture: Mixture, tmp_path: Path, form: str, where: str
) -> None:
    arrived: list[float] = []
    answer = service.answer

    def clocked(request: Request) -> Answer:
        if kind_of(request) == where:
            arrived.append(time.monotonic())
            if len(arrived) == 1:
                # Dates have whole seconds: this one is a second away at least.
                then = datetime.now(UTC) + timedelta(seconds=2)
                asked = "1" if form == "seconds" else format_datetime(then, usegmt=True)
                service.planned[where] = [as_json(429, {"detail": "slow"}, retry_after=asked)]
        return answer(request)

    service.answer = clocked  # type: ignore[method-assign]
    assert len(run(service.base_url, mixture, tmp_path).stems) == 4
    assert arrived[1] - arrived[0] >= 0.95
    assert len(arrived) == (2 if where == SUBMIT else 3)
    assert len(service.jobs) == 1


def test_killed_and_restarted_mid_job(mixture: Mixture, tmp_path: Path) -> None:
    patient = RetryPolicy(max_retries=500, max_backoff_seconds=0.02)
    with serve() as service:
        service.planned[ASK] = [QUEUED] * 3
        stemwright = make_provider("stemwright", base_url=service.base_url, api_key=KEY)
    separator = CloudEngine("htdemucs", provider=stemwright, policy=patient)
    found: list[StemSet] = []
    try:
        with serve(service):
            worker = _thread(
                lambda: found.append(separator.separate(SeparationRequest(mixture, tmp_path, FLAC)))
            )
            while service.count(ASK) < 2:
                time.sleep(0.002)
        time.sleep(0.1)  # nobody listens now
        with serve(service):
            worker.join(30)
    finally:
        separator.close()
    assert [len(stem_set.stems) for stem_set in found] == [4]
    assert (service.count(SUBMIT), len(service.jobs)) == (1, 1)


def test_restarted_without_its_jobs(
    service: LoopbackService, mixture: Mixture, tmp_path: Path
) -> None:
    def forget(handler: Any) -> None:
        service.jobs.clear()

    service.planned[ASK] = [QUEUED, forget]
    assert len(run(service.base_url, mixture, tmp_path).stems) == 4
    assert (service.count(SUBMIT), len(service.jobs)) == (2, 1)


def test_every_retry_is_logged_unless_it_is_not_to_be(
    service: LoopbackService, mixture: Mixture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.planned = {SUBMIT: [BUSY, reset], ASK: [hang_up], STEM: [BUSY]}
    with caplog.at_level(logging.INFO):
        run(service.base_url, mixture, tmp_path / "a")
    waits = [r.getMessage() for r in caplog.records if " of 6 " in r.getMessage()]
    song = "Ensemble – song: "
    assert len([words for words in waits if words.startswith(f"{song}POST /separate")]) == 2
    # The fault alone: that the job was under way still when it was asked for again is none.
    assert len([words for words in waits if words.startswith(f"{song}job ")]) == 1
    assert "downloading" in caplog.text
    assert KEY not in caplog.text
    caplog.clear()
    service.planned = {ASK: [BUSY]}
    with caplog.at_level(logging.INFO):
        run(service.base_url, mixture, tmp_path / "b", log_retries=False)
    assert "again in" not in caplog.text


def _thread(work: Callable[[], object]) -> Any:
    import threading

    thread = threading.Thread(target=work)
    thread.start()
    return thread

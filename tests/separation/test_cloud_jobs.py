"""A job at a service outlives the run that made it, and is paid for once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tasks.contracts import STEMS, Mixture, SeparationSettings
from tasks.errors import DeadlineMissed, Interrupted, NetworkError, ServiceError, StorageError
from tasks.net.retries import RetryPolicy
from tasks.separation import CloudEngine
from tasks.separation.cloud import JobStore, UploadPolicy, make_provider
from tasks.separation.request import Callbacks, SeparationRequest
from tests.separation.conftest import MixtureMaker
from tests.separation.loopback import KEY, Answer, LoopbackService, as_json, serve

FLAC = SeparationSettings(model="htdemucs")
HASTY = RetryPolicy(max_retries=6, max_backoff_seconds=0.004)
QUEUED = as_json(200, {"job_id": "x", "status": "queued"})
FAILED = as_json(200, {"job_id": "x", "status": "failed", "error_message": "no room"})
GONE = as_json(404, {"detail": "no such job"})

Run = Callable[..., CloudEngine]


@pytest.fixture
def service() -> Iterator[LoopbackService]:
    with serve() as running:
        yield running


@pytest.fixture
def mixture(make_mixture: MixtureMaker) -> Mixture:
    return make_mixture(seconds=0.4)


@pytest.fixture
def run(service: LoopbackService) -> Iterator[Run]:
    """A separator as a run has it; each call is another run on the same host."""
    opened: list[CloudEngine] = []

    def start(**options: Any) -> CloudEngine:
        stemwright = make_provider("stemwright", base_url=service.base_url, api_key=KEY)
        opened.append(CloudEngine("htdemucs", provider=stemwright, **{"policy": HASTY, **options}))
        return opened[-1]

    yield start
    for separator in opened:
        separator.close()


def test_a_run_that_is_killed_is_gone_on_with(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.planned["GET jobs"] = [QUEUED] * 10_000
    script = f"""
from pathlib import Path
from tasks.contracts import Mixture, SeparationSettings
from tasks.net.retries import RetryPolicy
from tasks.separation.cloud import CloudEngine, make_provider
from tasks.separation.request import SeparationRequest
CloudEngine(
    "htdemucs",
    provider=make_provider("stemwright", base_url={service.base_url!r}, api_key={KEY!r}),
    policy=RetryPolicy(max_retries=10_000, max_backoff_seconds=0.05),
).separate(
    SeparationRequest(
        Mixture.model_validate_json({mixture.model_dump_json()!r}),
        Path({str(tmp_path / "killed")!r}),
        SeparationSettings(model="htdemucs"),
    )
)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        until = time.monotonic() + 60
        while not service.count("GET jobs") and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert service.count("GET jobs")
    service.planned.clear()
    found = run().separate(SeparationRequest(mixture, tmp_path / "s", FLAC))
    assert tuple(found.stems) == STEMS
    assert (service.count("POST separate"), len(service.jobs)) == (1, 1)


def test_a_submit_whose_answer_never_came_is_repeated_under_its_key(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.planned["POST separate"] = [(0, {}, b"")]  # read whole, accepted or not, no answer
    once = RetryPolicy(max_retries=1)
    with pytest.raises(NetworkError) as caught:
        run(policy=once).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert caught.value.submitted
    run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    keys = [r.headers["idempotency-key"] for r in service.requests if r.method == "POST"]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_nobody_there_means_nothing_was_submitted(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    with serve() as gone:
        pass
    service.base_url = gone.base_url
    with pytest.raises(NetworkError) as caught:
        run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert not caught.value.submitted


def test_stems_that_were_fetched_but_not_committed_cost_nothing_again(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    run().separate(SeparationRequest(mixture, tmp_path / "a", FLAC))
    assert not service.forgotten
    found = run().separate(SeparationRequest(mixture, tmp_path / "b", FLAC))
    assert len(found.stems) == 4
    assert (service.count("POST separate"), len(service.jobs)) == (1, 1)


def test_a_settled_track_is_forgotten_here_and_there(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    separator = run()
    separator.separate(SeparationRequest(mixture, tmp_path / "a", FLAC))
    assert JobStore().entries() == 1
    separator.release(mixture.track_id)
    separator.close()
    assert service.forgotten == list(service.jobs)
    assert JobStore().entries() == 0
    run().separate(SeparationRequest(mixture, tmp_path / "b", FLAC))
    assert len(service.jobs) == 2


def test_settling_leaves_jobs_under_way_alone(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.planned["GET jobs"] = [QUEUED] * 6
    separator = run()
    with pytest.raises(DeadlineMissed):
        separator.separate(SeparationRequest(mixture, tmp_path, FLAC))
    separator.release(mixture.track_id)
    assert len(run().separate(SeparationRequest(mixture, tmp_path, FLAC)).stems) == 4
    assert (len(service.jobs), service.forgotten) == (1, [])


def test_a_service_that_forgets_nothing_is_no_fault(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    separator = run()
    separator.separate(SeparationRequest(mixture, tmp_path, FLAC))
    service.planned["DELETE jobs"] = [as_json(500, {})] * 9
    separator.release(mixture.track_id)
    separator.close()
    assert service.count("DELETE jobs") == 3


@pytest.mark.parametrize("answer", [GONE, FAILED, (200, {}, b"<html>"), as_json(410, {})])
def test_a_job_of_an_earlier_run_that_is_lost_is_submitted_anew(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path, answer: Answer
) -> None:
    run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    service.planned["GET jobs"] = [answer]
    assert len(run().separate(SeparationRequest(mixture, tmp_path, FLAC)).stems) == 4
    keys = [r.headers["idempotency-key"] for r in service.requests if r.method == "POST"]
    assert len(set(keys)) == len(keys) == 2


def test_a_job_that_is_lost_under_way_is_submitted_anew_once(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.planned["GET jobs"] = [QUEUED, GONE]
    assert len(run().separate(SeparationRequest(mixture, tmp_path, FLAC)).stems) == 4
    assert service.count("POST separate") == 2


def test_a_job_that_failed_is_not_gone_on_with(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.planned["GET jobs"] = [FAILED]
    with pytest.raises(ServiceError, match="no room"):
        run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert service.count("POST separate") == 1
    run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert service.count("POST separate") == 2


def test_a_key_that_stands_for_other_audio_is_replaced(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.planned["POST separate"] = [as_json(409, {"detail": "another file"})]
    assert len(run().separate(SeparationRequest(mixture, tmp_path, FLAC)).stems) == 4
    keys = [r.headers["idempotency-key"] for r in service.requests if r.method == "POST"]
    assert len(set(keys)) == 2


def test_what_is_wanted_tells_jobs_apart(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    run().separate(
        SeparationRequest(mixture, tmp_path, FLAC.model_copy(update={"stems": ("vocals",)}))
    )
    run().separate(SeparationRequest(mixture, tmp_path, FLAC.model_copy(update={"format": "wav"})))
    other = mixture.model_copy(update={"track_id": "fedcba9876543210"})
    run().separate(SeparationRequest(other, tmp_path, FLAC))
    assert len(service.jobs) == 4


def test_entries_do_not_stay_for_ever(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    later = JobStore(clock=lambda: time.time() + 20 * 24 * 3600)
    run(jobs=later).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert (len(service.jobs), later.entries()) == (2, 1)


def test_without_a_ledger_nothing_is_submitted(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"not a database" * 999)
    with pytest.raises(StorageError, match="damaged"):
        run(jobs=JobStore(tmp_path)).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert not service.requests


# --- gain, silence and cost -------------------------------------------------------------------


def test_the_services_gain_is_kept(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.more = {"gain": 0.5, "cost_usd": 0.25}
    found = run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert (found.gain, found.cost_usd) == (0.5, 0.25)
    assert level(found.stems["bass"], mixture) == pytest.approx(0.25, abs=1e-5)


def test_stems_made_again_get_the_gain_of_the_others(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.more = {"gain": 0.5}
    found = run().separate(
        SeparationRequest(mixture, tmp_path, FLAC, only=frozenset({"bass"}), gain=0.8)
    )
    assert found.gain == 0.8
    assert level(found.stems["bass"], mixture) == pytest.approx(0.25 * 0.8 / 0.5, abs=1e-5)


def test_stems_of_two_jobs_get_one_gain(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.leave_out = {"bass"}
    service.more = {"gain": 0.5, "cost_usd": 0.25}

    def mended(name: str, body: bytes) -> bytes:
        service.leave_out, service.more = set(), {"gain": 1.0, "cost_usd": 0.125}
        return body

    service.spoil = mended
    found = run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert (found.gain, found.cost_usd) == (0.5, 0.375)
    assert level(found.stems["drums"], mixture) == pytest.approx(0.25, abs=1e-5)
    assert level(found.stems["bass"], mixture) == pytest.approx(0.125, abs=1e-5)


@pytest.mark.parametrize("gain", [0, -1, "loud", None])
def test_a_gain_that_is_none_is_refused(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path, gain: object
) -> None:
    from tasks.errors import ProtocolError

    service.more = {"gain": gain}
    with pytest.raises(ProtocolError, match="gain of the job"):
        run().separate(SeparationRequest(mixture, tmp_path, FLAC))


def test_a_stem_that_was_not_detected_is_silence_and_no_fault(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.leave_out, service.more = {"vocals"}, {"absent": ["vocals"]}
    found = run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert tuple(found.stems) == STEMS
    assert found.stem_origins["vocals"] == "stemwright: not detected"
    assert found.stem_origins["drums"] == "stemwright"
    samples, rate = soundfile.read(found.stems["vocals"])
    assert (samples.shape, rate) == ((mixture.frames, 2), mixture.sample_rate_hz)
    assert not samples.any()
    assert len(service.jobs) == 1


def level(path: Path, mixture: Mixture) -> float:
    whole = soundfile.read(mixture.path)[0]
    return float(np.vdot(soundfile.read(path)[0], whole) / np.vdot(whole, whole))


# --- what is uploaded -------------------------------------------------------------------------


@pytest.fixture
def master(mixture: Mixture, tmp_path: Path) -> Mixture:
    """The same mixture, normalized to FLAC from a source in MP3's place."""
    samples, rate = soundfile.read(mixture.path)
    soundfile.write(tmp_path / "mixture.flac", samples, rate, subtype="PCM_24")
    source = tmp_path / "source.mp3"
    soundfile.write(source, samples, rate)
    ref = mixture.ref.model_copy(update={"source": str(source)})
    update = {"ref": ref, "path": tmp_path / "mixture.flac", "bit_depth": "24"}
    update["source_path"] = source
    return mixture.model_copy(update=update)


def test_the_upload_is_put_into_the_format_asked_for_without_loss(
    service: LoopbackService, master: Mixture, run: Run, tmp_path: Path
) -> None:
    run(upload=UploadPolicy(format="wav")).separate(SeparationRequest(master, tmp_path / "s", FLAC))
    sent = tmp_path / "sent.wav"
    sent.write_bytes(service.requests[0].fields["audio"])
    info = soundfile.info(sent)
    assert (info.format, info.subtype) == ("WAV", "PCM_24")
    assert np.array_equal(soundfile.read(sent)[0], soundfile.read(master.path)[0])
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == sorted(
        f"{name}.flac" for name in STEMS
    )


def test_a_mixture_that_flac_cannot_hold_is_uploaded_as_it_is(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    run(upload=UploadPolicy(format="flac")).separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert service.requests[0].fields["audio"] == mixture.path.read_bytes()


def test_the_sources_own_bytes(
    service: LoopbackService, master: Mixture, run: Run, tmp_path: Path
) -> None:
    own = UploadPolicy(format="wav", own_bytes=True)
    run(upload=own).separate(SeparationRequest(master, tmp_path / "a", FLAC))
    assert service.requests[0].fields["audio"] == Path(master.ref.source).read_bytes()


def test_a_source_that_is_gone_is_stood_in_for_by_the_mixture(
    service: LoopbackService,
    master: Mixture,
    run: Run,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Path(master.ref.source).unlink()
    with caplog.at_level("INFO"):
        run(upload=UploadPolicy(own_bytes=True)).separate(
            SeparationRequest(master, tmp_path / "a", FLAC)
        )
    assert service.requests[0].fields["audio"] == master.path.read_bytes()
    assert "the source is gone" in caplog.text


# --- one loop for all -------------------------------------------------------------------------


def test_many_threads_share_one_loop_and_a_limit(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    separator = run(max_jobs=3)
    most = 0
    answer = service.answer

    def counting(request: Any) -> Answer:
        nonlocal most
        fetched = Counter(r.path.split("/")[3] for r in service.requests if "/stems/" in r.path)
        under_way = [job for job in service.jobs if fetched[job] < len(STEMS)]
        most = max(most, len(under_way))
        return answer(request)

    service.answer = counting  # type: ignore[method-assign]
    done: list[int] = []

    def work(number: int) -> None:
        track = mixture.model_copy(update={"track_id": f"{number:016x}"})
        separator.separate(SeparationRequest(track, tmp_path / str(number), FLAC))
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    loops = [t for t in threading.enumerate() if t.name == "stemwright-stemwright"]
    for thread in threads:
        thread.join()
    assert len(loops) <= 1
    assert sorted(done) == list(range(12))
    assert 1 < most <= 3


def test_close_ends_what_is_under_way_and_the_thread(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.planned["GET jobs"] = [QUEUED] * 10_000
    separator = run(policy=RetryPolicy(max_retries=10_000, max_backoff_seconds=0.01))
    ended: list[BaseException] = []

    def work() -> None:
        try:
            separator.separate(SeparationRequest(mixture, tmp_path, FLAC))
        except Interrupted as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not service.count("GET jobs"):
        time.sleep(0.005)
    separator.close()
    thread.join(30)
    assert len(ended) == 1
    assert not [t for t in threading.enumerate() if t.name.startswith("stemwright-stemwright")]
    service.planned.clear()
    assert len(separator.separate(SeparationRequest(mixture, tmp_path, FLAC)).stems) == 4
    assert len(service.jobs) == 1


def test_a_stalled_service_does_not_hold_up_a_stop(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.planned["GET jobs"] = [lambda handler: time.sleep(1.0)]
    with pytest.raises(Interrupted):
        run().separate(
            SeparationRequest(
                mixture,
                tmp_path,
                FLAC,
                callbacks=Callbacks(stopping=lambda: service.count("GET jobs") > 0),
            )
        )
    assert service.count("GET jobs") == 1


def test_what_the_first_job_made_counts_when_the_second_fails(
    service: LoopbackService, mixture: Mixture, run: Run, tmp_path: Path
) -> None:
    service.leave_out = {"bass"}

    def fail_next(name: str, body: bytes) -> bytes:
        service.planned["GET jobs"] = [FAILED]
        return body

    service.spoil = fail_next
    found = run().separate(SeparationRequest(mixture, tmp_path, FLAC))
    assert set(found.stems) == {"drums", "other", "vocals"}
    assert len(service.jobs) == 2

"""The article's engine, called as the article calls it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.contracts import STEMS
from tasks.errors import (
    DeadlineMissed,
    KeyRejected,
    NotAudio,
    ProtocolError,
    SettingsError,
    SourceMissing,
    WeightsMissing,
)
from tasks.separation import (
    AudioSource,
    Hardware,
    SeparationJob,
    StemSeparationEngine,
    hardware,
)
from tests.separation.loopback import KEY, LoopbackService, as_json, serve
from tests.tiny_model import make_tiny_model


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "detect", lambda: Hardware())


@pytest.fixture
def service() -> Iterator[LoopbackService]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write_song(tmp_path / "song.wav")


def write_song(path: Path, rate: int = 44_100, channels: int = 2, format: str = "WAV") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of an Ogg with a single page FFmpeg decodes the padding too.
    seconds = 2.0 if format == "OGG" else 0.4
    noise = np.random.default_rng(1).normal(0, 0.1, (int(seconds * rate), channels))
    soundfile.write(path, noise, rate, format=format)
    return path


def local(models_dir: Path, **options: object) -> StemSeparationEngine:
    return StemSeparationEngine(model="tiny", models_dir=models_dir, **options)  # type: ignore[arg-type]


def test_the_articles_sequence_with_a_service(service: LoopbackService, song: Path) -> None:
    async def main() -> SeparationJob:
        engine = StemSeparationEngine(api_key=KEY, base_url=service.base_url)
        job = await engine.submit_separation(AudioSource(file_path=song))
        assert job.status == "queued"
        job = await engine.poll_job_status(job)
        await engine.close()
        return job

    job = asyncio.run(main())
    assert job.status == "complete"
    assert job.stems is not None
    assert set(job.stems) == set(STEMS)
    assert all(url.startswith(service.base_url) for url in job.stems.values())


def test_a_service_has_its_own_model_where_none_is_named(
    service: LoopbackService, song: Path
) -> None:
    async def main() -> None:
        for model in (None, "mdx"):
            async with StemSeparationEngine(KEY, service.base_url, model=model) as engine:
                await engine.submit_separation(AudioSource(file_path=song))

    asyncio.run(main())
    first, second = service.jobs.values()
    assert "model" not in first.fields
    assert second.fields["model"] == b"mdx"


def test_the_articles_sequence_on_this_machine(models_dir: Path, song: Path) -> None:
    async def main() -> SeparationJob:
        engine = StemSeparationEngine(api_key="", model="tiny", models_dir=models_dir)
        assert engine.use_local_gpu is False
        job = await engine.submit_separation(AudioSource(file_path=song))
        assert job.status == "processing"
        job = await engine.poll_job_status(job)
        await engine.close()
        return job

    job = asyncio.run(main())
    assert job.stems == {n: str(song.parent / "song_stems" / f"{n}.wav") for n in STEMS}
    frames = soundfile.info(song).frames
    assert all(soundfile.info(path).frames == frames for path in job.stems.values())


def test_the_event_loop_runs_on_while_a_file_is_separated(models_dir: Path, song: Path) -> None:
    async def main() -> int:
        ticks = 0
        async with local(models_dir) as engine:
            job = await engine.submit_separation(AudioSource(file_path=song, format="flac"))
            poll = asyncio.ensure_future(engine.poll_job_status(job))
            while not poll.done():
                ticks += 1
                await asyncio.sleep(0.005)
            assert (await poll).status == "complete"
        return ticks

    assert asyncio.run(main()) > 3


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.flac", 48_000, 2), ("b.mp3", 44_100, 2), ("c.ogg", 22_050, 1), ("d.aiff", 44_100, 1)],
)
def test_reads_what_libsndfile_reads(
    models_dir: Path, tmp_path: Path, name: str, rate: int, channels: int
) -> None:
    path = write_song(tmp_path / name, rate, channels, Path(name).suffix[1:].upper())

    async def main() -> SeparationJob:
        async with local(models_dir, output_dir=tmp_path / "out") as engine:
            job = await engine.submit_separation(AudioSource(file_path=path))
            return await engine.poll_job_status(job)

    stems = asyncio.run(main()).stems
    assert stems is not None
    info = soundfile.info(stems["vocals"])
    assert (info.samplerate, info.channels) == (44_100, 2)
    assert info.frames == pytest.approx(soundfile.info(path).frames * 44_100 / rate, abs=1)
    assert Path(stems["vocals"]).parent == tmp_path / "out" / f"{path.stem}_stems"


def test_one_name_in_two_folders_overwrites_nothing(models_dir: Path, tmp_path: Path) -> None:
    songs = [write_song(tmp_path / folder / "song.wav") for folder in ("a", "b")]

    async def main() -> list[SeparationJob]:
        async with local(models_dir, output_dir=tmp_path / "out") as engine:
            jobs = [await engine.submit_separation(AudioSource(file_path=path)) for path in songs]
            return [await engine.poll_job_status(job) for job in jobs]

    first, second = (job.stems or {} for job in asyncio.run(main()))
    assert not set(first.values()) & set(second.values())
    digest = [hashlib.sha256(Path(s["bass"]).read_bytes()).digest() for s in (first, second)]
    assert digest[0] == digest[1]


def test_errors_are_raised_where_they_are_noticed(models_dir: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp3"
    text.write_text("no music")
    song = write_song(tmp_path / "song.wav")

    async def main() -> None:
        async with local(models_dir) as engine:
            with pytest.raises(SourceMissing):
                await engine.submit_separation(AudioSource(file_path=tmp_path / "none.wav"))
            with pytest.raises(SettingsError, match="wav or flac, not as 'mp3'"):
                await engine.submit_separation(AudioSource(file_path=song, format="mp3"))
            with pytest.raises(SettingsError, match="not at 48000"):
                await engine.submit_separation(AudioSource(file_path=song, sample_rate=48_000))
            job = await engine.submit_separation(AudioSource(file_path=text))
            with pytest.raises(NotAudio):
                await engine.poll_job_status(job)
            with pytest.raises(ProtocolError, match="no job"):
                await engine.poll_job_status(SeparationJob(job_id="x", status="queued"))
        async with local(models_dir, deadline_s=0.0) as engine:
            job = await engine.submit_separation(AudioSource(file_path=song))
            with pytest.raises(DeadlineMissed):
                await engine.poll_job_status(job)
        async with StemSeparationEngine(offline=True) as engine:
            with pytest.raises(WeightsMissing, match=r"955717e8\.safetensors"):
                await engine.submit_separation(AudioSource(file_path=song))

    asyncio.run(main())


def test_poll_gives_up_after_max_retries(service: LoopbackService, song: Path) -> None:
    service.planned["GET jobs"] = [as_json(200, {"job_id": "x", "status": "queued"})] * 9

    async def main() -> None:
        async with StemSeparationEngine(
            KEY, service.base_url, backoff_multiplier=1.0, max_backoff_seconds=0.002
        ) as engine:
            job = await engine.submit_separation(AudioSource(file_path=song))
            with pytest.raises(DeadlineMissed, match="asked for 3 times"):
                await engine.poll_job_status(job, max_retries=3)

    asyncio.run(main())
    assert service.count("GET jobs") == 3


def test_download_brings_the_stems_home(service: LoopbackService, song: Path) -> None:
    async def main() -> dict[str, Path]:
        async with StemSeparationEngine(KEY, service.base_url) as engine:
            job = await engine.submit_separation(AudioSource(file_path=song, format="flac"))
            with pytest.raises(ProtocolError, match="no stems yet"):
                await engine.download(job, song.parent / "stems")
            return await engine.download(await engine.poll_job_status(job), song.parent / "stems")

    paths = asyncio.run(main())
    assert paths == {name: song.parent / "stems" / f"{name}.flac" for name in STEMS}
    assert all(path.stat().st_size for path in paths.values())


def test_a_stem_may_not_name_a_path(service: LoopbackService, tmp_path: Path) -> None:
    async def main() -> None:
        async with StemSeparationEngine(KEY, service.base_url) as engine:
            stems = {"../../evil": f"{service.base_url}/stems/x/bass.wav"}
            job = SeparationJob(job_id="x", status="complete", stems=stems)
            with pytest.raises(ProtocolError, match="evil"):
                await engine.download(job, tmp_path)

    asyncio.run(main())
    assert not service.requests


def test_the_key_is_a_secret(service: LoopbackService, song: Path) -> None:
    async def main() -> None:
        async with StemSeparationEngine("sk-wrong-secret", service.base_url) as engine:
            with pytest.raises(KeyRejected) as caught:
                await engine.submit_separation(AudioSource(file_path=song))
            assert "secret" not in f"{engine!r} {vars(engine)} {vars(engine.api)} {caught.value}"

    asyncio.run(main())


def test_the_examples_address_is_no_service() -> None:
    engine = StemSeparationEngine(api_key="a key")
    assert engine.route.engine == "local_cpu"
    asyncio.run(engine.close())
    with pytest.raises(SettingsError, match="aren't both set"):
        StemSeparationEngine(api_key="a key", provider="cloud")


def test_a_service_on_the_loopback_needs_no_key() -> None:
    engine = StemSeparationEngine(base_url="http://127.0.0.1:8765/v1")
    assert engine.route.engine == "cloud"
    asyncio.run(engine.close())


def test_a_deadline_counts_from_the_submit(service: LoopbackService, song: Path) -> None:
    service.planned["GET jobs"] = [as_json(200, {"job_id": "x", "status": "queued"})] * 9999

    async def main() -> None:
        how = {"deadline_s": 0.5, "max_retries": 9999, "max_backoff_seconds": 0.01}
        async with StemSeparationEngine(KEY, service.base_url, **how) as engine:  # type: ignore[arg-type]
            job = await engine.submit_separation(AudioSource(file_path=song))
            for _ in range(2):  # asking anew doesn't start the clock anew
                with pytest.raises(DeadlineMissed, match=r"within 0\.5 s of its submit"):
                    await engine.poll_job_status(job)

    asyncio.run(main())
    assert len(service.jobs) == 1


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(SettingsError, match=r"engine\.backoff_multiplier"):
        StemSeparationEngine(backoff_multiplier=0.5)


def test_close_ends_a_separation_between_segments(models_dir: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    noise = np.random.default_rng(1).normal(0, 0.1, (44_100 * 60, 2))
    soundfile.write(long, noise, 44_100)

    async def main() -> Path:
        engine = local(models_dir)
        await engine.submit_separation(AudioSource(file_path=long))
        await asyncio.sleep(0.05)
        await engine.close()
        return tmp_path / "long_stems"

    assert not asyncio.run(main()).exists()

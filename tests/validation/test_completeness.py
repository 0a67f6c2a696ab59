"""What counts as a whole stem set, over real files."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tasks.contracts import (
    CompletenessPolicy,
    Mixture,
    SourceFormat,
    StemSet,
    TrackRef,
)
from tasks.errors import CorruptAudio, ProtocolError
from tasks.validation import check_completeness

RATE = 44_100
STEMS = ("drums", "bass", "other", "vocals")
FRAMES = 70_000  # more than one block


def noise(seed: int, frames: int = FRAMES, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal((frames, 2))


class Set:
    """A mixture and its stems on disk, to be damaged."""

    def __init__(self, folder: Path, gain: float = 1.0, subtype: str = "PCM_24") -> None:
        self.folder, self.gain, self.subtype = folder, gain, subtype
        self.audio = {name: noise(seed) for seed, name in enumerate(STEMS)}
        self.paths = {name: folder / f"{name}.wav" for name in STEMS}
        self.write_mixture(np.sum(list(self.audio.values()), axis=0))
        for name in STEMS:
            self.write(name, self.audio[name])

    def write_mixture(self, samples: np.ndarray) -> None:
        self.frames = len(samples)
        sf.write(self.folder / "mixture.flac", samples, RATE, subtype="PCM_24")

    def write(self, name: str, samples: np.ndarray, rate: int = RATE) -> None:
        sf.write(self.paths[name], samples * self.gain, rate, subtype=self.subtype)

    def mixture(self, **changes: object) -> Mixture:
        values: dict[str, object] = {
            "ref": TrackRef(source="/m/song.flac", kind="file", title="Song"),
            "track_id": "0" * 16,
            "path": self.folder / "mixture.flac",
            "sample_rate_hz": RATE,
            "channels": 2,
            "frames": self.frames,
            "bit_depth": "24",
            "peak": 0.9,
            "silent": False,
            "source": SourceFormat(
                container="flac", codec="flac", sample_rate_hz=RATE, channels=2, lossy=False
            ),
        }
        return Mixture.model_validate(values | changes)

    def stems(self, **changes: object) -> StemSet:
        values: dict[str, object] = {
            "track_id": "0" * 16,
            "separation_id": "m-00000000",
            "model": "m",
            "weights_sha256": "",
            "expected": STEMS,
            "stems": self.paths,
            "sample_rate_hz": RATE,
            "channels": 2,
            "frames": self.frames,
            "gain": self.gain,
            "engine": "local_cpu",
            "provider": "local_cpu",
            "device": "cpu",
            "separation_s": 1.0,
        }
        return StemSet.model_validate(values | changes)


@pytest.fixture
def whole(tmp_path: Path) -> Set:
    return Set(tmp_path)


def test_a_whole_set_is_complete_with_a_small_residual(whole: Set) -> None:
    found = check_completeness(whole.mixture(), whole.stems())
    assert found.complete
    assert found.present == STEMS
    assert found.missing == found.silent == found.problems == ()
    assert found.residual_db is not None
    assert found.residual_db < -100


def test_each_stem_is_measured(whole: Set) -> None:
    vocals = check_completeness(whole.mixture(), whole.stems()).stems["vocals"]
    audio, raw = whole.audio["vocals"], whole.paths["vocals"].read_bytes()
    energies = {name: float(np.square(a).sum()) for name, a in whole.audio.items()}
    assert vocals.sha256 == hashlib.sha256(raw).hexdigest()
    assert vocals.bytes == len(raw)
    assert vocals.frames == FRAMES
    assert vocals.peak_dbfs == pytest.approx(20 * np.log10(np.abs(audio).max()), abs=0.001)
    assert vocals.rms_dbfs == pytest.approx(10 * np.log10(np.mean(audio**2)), abs=0.001)
    assert vocals.energy_share == pytest.approx(
        energies["vocals"] / sum(energies.values()), abs=1e-5
    )
    assert vocals.clipped_samples == 0


def test_the_common_gain_is_undone(tmp_path: Path) -> None:
    quiet = Set(tmp_path, gain=0.25)
    found = check_completeness(quiet.mixture(), quiet.stems())
    assert found.complete
    assert found.residual_db is not None
    assert found.residual_db < -90
    forgotten = check_completeness(quiet.mixture(), quiet.stems(gain=1.0))
    assert forgotten.residual_db == pytest.approx(20 * np.log10(0.75), abs=0.01)


def test_the_residual_is_the_part_of_the_mixture_in_no_stem(whole: Set) -> None:
    lost = noise(99, level=0.02)
    whole.write_mixture(np.sum(list(whole.audio.values()), axis=0) + lost)
    total = np.sum(list(whole.audio.values()), axis=0) + lost
    expected = 10 * np.log10(np.square(lost).sum() / np.square(total).sum())
    found = check_completeness(whole.mixture(), whole.stems())
    assert found.residual_db == pytest.approx(expected, abs=0.01)
    strict = check_completeness(
        whole.mixture(), whole.stems(), CompletenessPolicy(max_residual_db=expected - 1)
    )
    assert not strict.complete
    assert strict.missing == ()
    assert "don't sum to the mixture" in strict.problems[0]


def test_stems_of_another_song_are_refused_by_the_default_policy(whole: Set) -> None:
    whole.write_mixture(noise(50) + noise(51))
    found = check_completeness(whole.mixture(), whole.stems())
    assert not found.complete
    assert "don't sum to the mixture" in found.problems[0]


def test_no_residual_when_only_some_stems_were_kept(whole: Set) -> None:
    kept = {"vocals": whole.paths["vocals"]}
    found = check_completeness(
        whole.mixture(), whole.stems(expected=("vocals",), stems=kept, all_stems=False)
    )
    assert found.complete
    assert found.residual_db is None


def test_a_stem_that_was_never_written_is_named(whole: Set) -> None:
    kept = {name: path for name, path in whole.paths.items() if name != "bass"}
    found = check_completeness(whole.mixture(), whole.stems(stems=kept))
    assert found.missing == ("bass",)
    assert found.present == ("drums", "other", "vocals")
    assert found.problems == ("bass: it is missing; no file was written for it.",)
    assert found.residual_db is None


def test_an_unexpected_stem_is_a_problem_but_nothing_is_missing(whole: Set) -> None:
    extra = {**whole.paths, "piano": whole.paths["other"]}
    found = check_completeness(whole.mixture(), whole.stems(stems=extra))
    assert not found.complete
    assert found.missing == ()
    assert found.problems == (
        "piano: it is unexpected; the stems asked for are drums, bass, other, vocals.",
    )


def damage_absent(s: Set) -> None:
    s.paths["bass"].unlink()


def damage_empty(s: Set) -> None:
    s.paths["bass"].write_bytes(b"")


def damage_text(s: Set) -> None:
    s.paths["bass"].write_text("this is no audio " * 100)


def damage_folder(s: Set) -> None:
    s.paths["bass"].unlink()
    s.paths["bass"].mkdir()


def damage_short(s: Set) -> None:
    s.write("bass", s.audio["bass"][:-1])


def damage_long(s: Set) -> None:
    s.write("bass", np.concatenate([s.audio["bass"]] * 3))


def damage_no_frames(s: Set) -> None:
    s.write("bass", np.zeros((0, 2)))


def damage_rate(s: Set) -> None:
    s.write("bass", s.audio["bass"], rate=48_000)


def damage_mono(s: Set) -> None:
    s.write("bass", s.audio["bass"][:, :1])


def damage_nan(s: Set) -> None:
    samples = s.audio["bass"].astype(np.float32)
    samples[FRAMES - 5, 1] = np.nan
    sf.write(s.paths["bass"], samples, RATE, subtype="FLOAT")


def damage_truncated(s: Set) -> None:
    flac = s.paths["bass"].with_suffix(".flac")
    sf.write(flac, s.audio["bass"], RATE, subtype="PCM_24")
    s.paths["bass"] = flac
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])


def damage_clipped(s: Set) -> None:
    s.write("bass", s.audio["bass"] * 40)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_absent, "there is no file"),
        (damage_empty, "the file is empty"),
        (damage_text, "can't be opened as audio"),
        (damage_folder, "isn't a file"),
        (damage_short, "it holds 69,999 frames, where the mixture has 70,000"),
        (damage_long, "it holds 210,000 frames, where the mixture has 70,000"),
        (damage_no_frames, "it holds 0 frames"),
        (damage_rate, "its sample rate is 48000 Hz, where the mixture has 44100 Hz"),
        (damage_mono, "it has 1 channel(s), where the mixture has 2"),
        (damage_nan, "not finite"),
        (damage_truncated, "frames"),
        (damage_clipped, "writing clipped it"),
    ],
)
def test_a_broken_stem_counts_as_missing_and_says_why(
    whole: Set, damage: object, says: str
) -> None:
    damage(whole)  # type: ignore[operator]
    found = check_completeness(whole.mixture(), whole.stems())
    assert found.missing == ("bass",)
    assert found.present == ("drums", "other", "vocals")
    assert len(found.problems) == 1
    assert found.problems[0].startswith("bass: ")
    assert says in found.problems[0]
    assert found.residual_db is None


def test_a_silent_stem_is_reported_and_is_no_problem(whole: Set) -> None:
    whole.write("vocals", np.zeros((FRAMES, 2)))
    found = check_completeness(whole.mixture(), whole.stems())
    assert found.complete
    assert found.silent == ("vocals",)
    assert found.stems["vocals"].rms_dbfs is None
    assert found.stems["vocals"].energy_share == 0


def test_all_stems_silent_while_the_mixture_is_not_is_a_problem(whole: Set) -> None:
    for name in STEMS:
        whole.write(name, np.zeros((FRAMES, 2)))
    found = check_completeness(whole.mixture(), whole.stems())
    assert not found.complete
    assert found.missing == ()
    assert found.problems == ("every stem is silent, but the mixture isn't.",)


def test_a_silent_mixture_has_silent_stems_and_no_residual(whole: Set) -> None:
    whole.write_mixture(np.zeros((FRAMES, 2)))
    for name in STEMS:
        whole.write(name, np.zeros((FRAMES, 2)))
    found = check_completeness(whole.mixture(silent=True), whole.stems())
    assert found.complete
    assert found.silent == STEMS
    assert found.residual_db is None


def test_a_residual_is_named_for_what_it_is(whole: Set) -> None:
    strict = CompletenessPolicy(max_residual_db=-20)

    def problem() -> str:
        return check_completeness(whole.mixture(), whole.stems(), strict).problems[0]

    whole.write_mixture(sum(whole.audio.values()) - 0.1)
    assert problem().endswith("; it is a constant offset of -0.100.")
    whole.write_mixture(sum(whole.audio.values()) / 2)
    assert problem().endswith("; their sum is the mixture multiplied by 2.00.")
    whole.write_mixture(np.roll(sum(whole.audio.values()), 1000, axis=0))
    assert problem().endswith("; they hold what the mixture doesn't.")


@pytest.mark.parametrize("dbfs", [-60.0, -80.0])
def test_a_very_quiet_mixture_is_not_silent(whole: Set, dbfs: float) -> None:
    loud_dbfs = 10 * np.log10(np.mean(np.square(sum(whole.audio.values()))))
    gain = 10 ** ((dbfs - loud_dbfs) / 20)
    whole.write_mixture(gain * sum(whole.audio.values()))
    for name in STEMS:
        whole.write(name, gain * whole.audio[name])
    found = check_completeness(whole.mixture(), whole.stems())
    assert found.complete
    assert found.silent == ()
    assert found.residual_db is not None
    whole.write("vocals", np.zeros((FRAMES, 2)))
    assert check_completeness(whole.mixture(), whole.stems()).silent == ("vocals",)


def test_two_samples_at_full_scale_are_not_clipping(whole: Set) -> None:
    peaky = whole.audio["bass"].copy()
    peaky[100:102] = 1.0
    peaky[65_535:65_537, 0] = -1.0  # across two blocks
    whole.write("bass", peaky)
    found = check_completeness(whole.mixture(), whole.stems())
    assert found.complete
    assert found.stems["bass"].clipped_samples == 0


def test_a_clipped_run_is_counted_across_blocks(whole: Set) -> None:
    flat = whole.audio["bass"].copy()
    flat[65_534:65_538, 0] = 1.2
    whole.write("bass", flat)
    found = check_completeness(whole.mixture(), whole.stems())
    assert found.stems["bass"].clipped_samples == 4
    assert found.missing == ("bass",)


def test_full_scale_where_the_mixture_clips_too_is_the_mixtures_own(whole: Set) -> None:
    flat = whole.audio["bass"].copy()
    flat[500:520] = 1.0
    master = np.sum(list(whole.audio.values()), axis=0)
    master[500:520] = 1.0
    whole.write("bass", flat)
    whole.write_mixture(master)
    assert check_completeness(whole.mixture(), whole.stems()).stems["bass"].clipped_samples == 0


def test_a_float_stem_over_full_scale_is_not_clipped(tmp_path: Path) -> None:
    loud = Set(tmp_path, subtype="FLOAT")
    loud.write("bass", loud.audio["bass"] * 40)
    loud.write_mixture(np.sum(list(loud.audio.values()), axis=0))
    found = check_completeness(loud.mixture(), loud.stems())
    assert found.missing == ()
    assert found.stems["bass"].clipped_samples == 0
    assert (found.stems["bass"].peak_dbfs or 0) > 0


def test_a_mixture_that_is_not_what_it_says_is_corrupt(whole: Set) -> None:
    with pytest.raises(CorruptAudio, match="70,000 frames of 2 channels") as caught:
        check_completeness(whole.mixture(frames=FRAMES + 1), whole.stems())
    assert (caught.value.stage, caught.value.track) == ("validate", "Song")
    with pytest.raises(CorruptAudio, match="can't be read"):
        check_completeness(whole.mixture(path=whole.folder / "gone.flac"), whole.stems())


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan")])
def test_a_gain_that_cannot_be_undone_is_refused(whole: Set, gain: float) -> None:
    with pytest.raises(ProtocolError, match="common gain"):
        check_completeness(whole.mixture(), whole.stems(gain=gain))


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    def peak_bytes(seconds: int) -> int:
        folder = tmp_path / str(seconds)
        folder.mkdir()
        paths = {name: folder / f"{name}.flac" for name in STEMS}
        for path in (*paths.values(), folder / "mixture.flac"):
            sf.write(path, np.tile(noise(1, RATE), (seconds, 1)), RATE)
        s = Set.__new__(Set)
        s.folder, s.gain, s.paths, s.frames = folder, 1.0, paths, seconds * RATE
        tracemalloc.start()
        check_completeness(s.mixture(), s.stems(all_stems=False))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(40) < 1.1 * peak_bytes(8)

"""The data that the score is fitted on and judged by: truth, damage, pieces."""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.quality import corpus, table
from tests.benchmarks.quality.audio import Audio, on_grid, read, write_stems
from tests.benchmarks.quality.degradations import KINDS, Kind, Scene
from tests.benchmarks.quality.pieces import Piece, all_pieces
from tests.benchmarks.quality.truth import is_absent, sdr, si_sdr
from tests.data.studio.pieces import PIECES
from tests.data.studio.render import SOUND_FONT
from tests.data.studio.score import SAMPLE_RATE, STEMS
from tests.quality.multitrack import reference_stems

BY_NAME = {kind.name: kind for kind in KINDS}
needs_fluidsynth = pytest.mark.skipif(
    ctypes.util.find_library("fluidsynth") is None or not SOUND_FONT.exists(),
    reason="renders pieces: apt install fluidsynth fluid-soundfont-gm",
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    stems = {name: on_grid(audio.T) for name, audio in reference_stems(4.0).items()}
    return Scene(stems, "vocals", "other")


def degraded(scene: Scene, name: str, strength: float) -> Audio:
    return BY_NAME[name].apply(scene, strength, np.random.default_rng(1))[scene.target]


def energy_db(audio: Audio, reference: Audio) -> float:
    return float(10 * np.log10((audio**2).sum() / (reference**2).sum()))


class TestRatios:
    def test_orthogonal_error_of_a_tenth_of_the_energy_is_10_db(self) -> None:
        true = np.zeros((2, 400))
        true[0, ::2] = 1.0
        error = np.zeros((2, 400))
        error[1, :20] = 1.0
        assert si_sdr(true + error, true) == pytest.approx(10.0)
        assert sdr(true + error, true) == pytest.approx(10.0)

    def test_a_wrong_level_lowers_sdr_alone(self) -> None:
        true = np.random.default_rng(0).standard_normal((2, 1000))
        assert si_sdr(0.5 * true, true) == 60.0
        assert sdr(0.5 * true, true) == pytest.approx(6.02, abs=0.01)

    def test_wrong_polarity_lowers_sdr_alone(self) -> None:
        true = np.random.default_rng(0).standard_normal((2, 1000))
        assert si_sdr(-true, true) == 60.0
        assert sdr(-true, true) == pytest.approx(-6.02, abs=0.01)

    def test_both_channels_count(self) -> None:
        true = np.random.default_rng(0).standard_normal((2, 1000))
        one_side = true * [[1], [0]]
        assert sdr(one_side, true) == pytest.approx(3.0, abs=0.3)

    def test_silence_is_the_floor_and_no_truth_is_no_number(self) -> None:
        true = np.ones((2, 10))
        assert si_sdr(0 * true, true) == -30.0
        assert sdr(0 * true, true) == 0.0
        assert np.isnan(si_sdr(true, 0 * true))

    @pytest.mark.parametrize(("level_db", "absent"), [(-31, True), (-29, False)])
    def test_a_stem_30_db_under_the_mixture_is_absent(self, level_db: float, absent: bool) -> None:
        mixture = np.ones((2, 10))
        assert is_absent(mixture * 10 ** (level_db / 20), mixture) is absent


class TestDegradations:
    def test_there_are_seventeen_and_more_each_at_three_strengths(self) -> None:
        assert len(KINDS) >= 17
        assert all(len(set(kind.strengths)) >= 3 for kind in KINDS)
        assert len(BY_NAME) == len(KINDS)

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
    def test_hurts_the_stem_it_is_told_to_and_says_how(self, scene: Scene, kind: Kind) -> None:
        assert kind.apply.__doc__
        worst = kind.apply(scene, kind.strengths[-1], np.random.default_rng(3))
        again = kind.apply(scene, kind.strengths[-1], np.random.default_rng(3))
        assert scene.target in worst
        for name, audio in worst.items():
            assert audio.shape == scene.chosen.shape
            assert np.isfinite(audio).all()
            assert np.array_equal(audio, again[name])
        found = worst[scene.target]
        assert min(sdr(found, scene.chosen), si_sdr(found, scene.chosen)) < 45.0

    @pytest.mark.parametrize(
        "kind", [k for k in KINDS if k.name != "gain"], ids=lambda kind: kind.name
    )
    def test_the_last_strength_hurts_more_than_the_first(self, scene: Scene, kind: Kind) -> None:
        q = []
        for strength in (kind.strengths[0], kind.strengths[-1]):
            rng = np.random.default_rng(5)
            found = kind.apply(scene, strength, rng)[scene.target]
            q.append(min(sdr(found, scene.chosen), si_sdr(found, scene.chosen)))
        assert q[1] < q[0]

    @pytest.mark.parametrize("kind", [k for k in KINDS if k.zero_sum], ids=lambda kind: kind.name)
    def test_zero_sum_kinds_keep_the_sum_to_the_last_bit(self, scene: Scene, kind: Kind) -> None:
        for strength in kind.strengths:
            changed = kind.apply(scene, strength, np.random.default_rng(2))
            assert set(changed) == {scene.target, scene.partner}
            assert np.array_equal(sum({**scene.stems, **changed}.values()), scene.mixture)

    def test_a_lossy_mixture_is_still_the_sum_of_its_stems(self, scene: Scene) -> None:
        changed = BY_NAME["lossy_source"].apply(scene, 64, np.random.default_rng(2))
        lossy = changed.pop("mixture")
        assert 5 < sdr(lossy, scene.mixture) < 40
        assert np.abs(sum({**scene.stems, **changed}.values()) - lossy).max() < 1e-4

    @pytest.mark.parametrize("name", ["bleed", "musical_noise", "reverb", "noise"])
    def test_what_is_added_has_the_level_it_says(self, scene: Scene, name: str) -> None:
        for level_db in BY_NAME[name].strengths:
            added = degraded(scene, name, level_db) - scene.chosen
            assert energy_db(added, scene.chosen) == pytest.approx(level_db, abs=0.01)

    def test_a_gain_is_a_gain(self, scene: Scene) -> None:
        quiet = degraded(scene, "gain", -9)
        assert energy_db(quiet, scene.chosen) == pytest.approx(-9, abs=0.01)
        assert si_sdr(quiet, scene.chosen) > 50

    def test_polarity_turns_both_channels_or_one(self, scene: Scene) -> None:
        assert np.array_equal(degraded(scene, "polarity", 1.0), -scene.chosen)
        assert np.array_equal(degraded(scene, "polarity", 0.5), scene.chosen * [[1], [-1]])

    def test_time_shift_comes_late_by_its_milliseconds(self, scene: Scene) -> None:
        late = degraded(scene, "time_shift", 5)
        assert np.array_equal(late[:, 220:], scene.chosen[:, :-220])

    def test_truncation_ends_in_silence(self, scene: Scene) -> None:
        cut = degraded(scene, "truncation", 0.3)
        kept = round(0.7 * cut.shape[1])
        assert not cut[:, kept:].any()
        assert np.array_equal(cut[:, :kept], scene.chosen[:, :kept])

    def test_dropouts_take_the_share_they_say(self, scene: Scene) -> None:
        before = (scene.chosen[0] == 0).mean()
        gone = (degraded(scene, "dropouts", 0.2)[0] == 0).mean() - before
        assert 0.2 * (1 - before) <= gone < 0.2 * (1 - before) + 0.08

    def test_lowpass_leaves_nothing_above(self, scene: Scene) -> None:
        power = np.abs(np.fft.rfft(degraded(scene, "lowpass", 1000))) ** 2
        hertz = np.fft.rfftfreq(scene.chosen.shape[1], 1 / SAMPLE_RATE)
        assert power[:, hertz > 1500].sum() < 1e-4 * power.sum()

    def test_clipping_flattens_the_peaks(self, scene: Scene) -> None:
        flat = degraded(scene, "clipping", 14)
        ceiling = np.abs(scene.chosen).max() * 10 ** (-14 / 20)
        assert np.abs(flat).max() == pytest.approx(ceiling, abs=1e-6)
        assert (np.abs(flat) == np.abs(flat).max()).mean() > 0.01

    def test_mono_collapse_leaves_two_like_channels(self, scene: Scene) -> None:
        mono = degraded(scene, "mono_collapse", 0.0)
        assert np.array_equal(mono[0], mono[1])

    def test_silence_is_digital_at_its_strongest(self, scene: Scene) -> None:
        assert not degraded(scene, "silence", -100).any()

    def test_phase_smear_and_holes_add_no_energy(self, scene: Scene) -> None:
        assert energy_db(degraded(scene, "phase_smear", 0.7), scene.chosen) < 0.1
        assert energy_db(degraded(scene, "holes", 0.3), scene.chosen) < 0.0


def test_files_keep_every_bit(tmp_path: Path) -> None:
    audio = on_grid(np.random.default_rng(0).uniform(-1, 0.99, (2, 1000)))
    write_stems(tmp_path, {"drums": audio})
    assert np.array_equal(read(tmp_path / "drums.flac"), audio)


class TestPieces:
    def test_genres_and_seeds_are_many_and_none_is_bundled(self) -> None:
        pieces = all_pieces()
        assert len({piece.genre for piece in pieces}) >= 14
        assert len({piece.seed for piece in pieces}) == len(pieces) >= 28
        assert not {piece.name for piece in pieces} & {piece.slug for piece in PIECES}

    @needs_fluidsynth
    def test_two_renderings_are_the_same_to_the_bit_and_sum_up(self, tmp_path: Path) -> None:
        piece = Piece("folk", 0)
        for folder in (tmp_path / "one", tmp_path / "two"):
            corpus.make_piece(folder, piece, seconds=2.0)
        files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
        assert len(files) == len(STEMS) + 2
        for file in files:
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
        true, mixture = corpus.load_piece(tmp_path / "one", piece)
        assert np.array_equal(sum(true.values()), mixture)
        assert np.abs(mixture).max() < 1.0
        assert not true["drums"].any()
        assert energy_db(true["other"], mixture) > -10

    @needs_fluidsynth
    def test_the_table_holds_truth_and_measures(self, tmp_path: Path) -> None:
        corpus.make_piece(tmp_path, Piece("folk", 0), seconds=2.0)
        table.build(tmp_path)
        found = pd.read_parquet(tmp_path / "stems.parquet").to_dict("records")
        assert [row["stem"] for row in found] == list(STEMS)
        rows = {row["stem"]: row for row in found}
        assert rows["other"]["q_db"] == 60.0
        assert rows["other"]["m_est_sdr_db"] > 10
        assert rows["drums"]["absent"]
        assert np.isnan(rows["drums"]["q_db"])

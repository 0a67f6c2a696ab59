"""The figures that benchmarks of separation tell come from these few sums, and from one child."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.benchmarks import contenders, full_size, separation_speed
from tests.benchmarks.child import (
    Measured,
    NotRun,
    agreement_db,
    measure,
    median,
    stem_files,
)
from tests.benchmarks.contenders import Contender, Job
from tests.benchmarks.full_size import make_model, make_music, music
from tests.benchmarks.gpu import Gpu, Speed, find_gpu, speed_rows, steady_s
from tests.benchmarks.gpu_load import busy_share
from tests.benchmarks.results import ROOT
from tests.benchmarks.separation_memory import Length, growth
from tests.benchmarks.separation_speed import Entry, rows

RATE = 44_100


_HOLD = "held = bytearray(300 << 20); held[::4096] = b'x' * 76800"


def test_a_childs_time_is_its_own(tmp_path: Path) -> None:
    took = measure([sys.executable, "-c", "import time; time.sleep(0.5)"], tmp_path / "log")
    assert took.wall_s >= 0.5
    assert 0 < took.cpu_s < took.wall_s


@pytest.mark.parametrize(
    "program",
    [_HOLD, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_HOLD!r}])"],
    ids=["child", "grandchild"],
)
def test_a_childs_memory_is_its_largest_process(tmp_path: Path, program: str) -> None:
    # Not from here: the tests' own process is larger, and would count.
    tell = (
        "import sys; from pathlib import Path; from tests.benchmarks.child import measure\n"
        "peak = lambda code: measure([sys.executable, '-c', code], Path(sys.argv[1])).peak_mib\n"
        "print(peak(sys.argv[2]), peak(''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", tell, str(tmp_path / "log"), program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    held, idle = map(float, done.stdout.split())
    assert held > 300
    assert idle < 150


def test_a_child_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="exit status 3: no weights"):
        measure([sys.executable, "-c", "print('no weights'); exit(3)"], tmp_path / "log")
    with pytest.raises(NotRun, match="No such file"):
        measure([tmp_path / "absent"], tmp_path / "log")


def test_a_median_is_taken_of_each_figure() -> None:
    runs = [Measured(1, 9, 5), Measured(3, 7, 4), Measured(2, 8, 6)]
    assert median(runs) == Measured(2, 8, 5)


@pytest.mark.parametrize("gain_db", [-60.0, -100.0])
def test_agreement_is_the_ratio_of_stem_to_difference(tmp_path: Path, gain_db: float) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (300_000, 2))
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="DOUBLE")
    soundfile.write(
        tmp_path / "b.wav", samples * (1 + 10 ** (gain_db / 20)), RATE, subtype="DOUBLE"
    )
    found = agreement_db(tmp_path / "b.wav", tmp_path / "a.wav")
    assert found == pytest.approx(-gain_db, abs=0.01)
    assert agreement_db(tmp_path / "a.wav", tmp_path / "a.wav") == pytest.approx(300)


def test_stems_of_another_length_are_no_result(tmp_path: Path) -> None:
    for name, frames in (("a.wav", 1000), ("b.wav", 999)):
        soundfile.write(tmp_path / name, np.zeros((frames, 2)), RATE)
    with pytest.raises(NotRun, match="999"):
        agreement_db(tmp_path / "b.wav", tmp_path / "a.wav")


def test_a_stem_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "drums.wav").touch()
    with pytest.raises(NotRun, match="left out vocals"):
        stem_files(tmp_path, ["drums", "vocals"])


def test_music_has_its_length_and_is_always_the_same(tmp_path: Path) -> None:
    for name in ("a.flac", "b.flac"):
        make_music(tmp_path / name, 12.5)
    samples, _ = soundfile.read(tmp_path / "a.flac")
    assert samples.shape == (round(12.5 * RATE), 2)
    assert 0.03 < np.sqrt(np.mean(samples**2)) < 0.2
    assert agreement_db(tmp_path / "a.flac", tmp_path / "b.flac") == pytest.approx(300)


def test_ratios_are_stocks_time_over_each_ones() -> None:
    stock = Entry(contenders.stock(), [Measured(90, 160, 1500)], depth="FLOAT")
    mine = Entry(contenders.ours(), [Measured(45, 80, 900)], snr_db=101.4, depth="FLOAT")
    gone = Entry(contenders.demucs_infer(), failure="pip: no such package")
    told = rows("60 s", [stock, mine, gone])
    assert told[1] == (
        "| 60 s | stemwright | 45.0 s | 80.0 s | 900 MiB | 2.00 | 2.00 | 101 dB | FLOAT |"
    )
    assert "not measured: pip: no such package" in told[2]
    assert len({row.count("|") for row in told}) == 1


@pytest.mark.slow
def test_we_and_stock_are_compared_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_size, "BUILD", tmp_path)
    monkeypatch.setattr(contenders, "MODELS", tmp_path)
    monkeypatch.setattr(separation_speed, "_WARM_S", 1.0)
    make_model("embedded", tmp_path)
    broken = Contender("broken", lambda job: [sys.executable, "-c", "exit(1)"])
    job = Job([music(2)], tmp_path / "out", "embedded", stem="vocals")
    stock, mine, failed = separation_speed.compare(
        [contenders.stock(), contenders.ours(), broken], job, repeats=1
    )
    assert not stock.failure
    assert not mine.failure
    assert mine.snr_db is not None
    assert mine.snr_db > 80
    assert (stock.depth, mine.depth) == ("FLOAT", "FLOAT")
    assert "exit status 1" in failed.failure


def test_growth_is_that_of_the_longest_over_the_shortest() -> None:
    lengths = [Length(60, Measured(1, 1, 550), "not asked for"), Length(4, Measured(1, 1, 500), "")]
    assert growth(lengths) == "60 min take us +10.0 % more memory than 4 min."


def test_a_tracks_time_leaves_the_start_out() -> None:
    assert steady_s(one=12.0, many=26.0, tracks=8) == 2.0
    with pytest.raises(NotRun, match="longer"):
        steady_s(one=12.0, many=11.0, tracks=8)


def test_busy_is_weighed_by_time_and_tells_the_start_apart() -> None:
    samples = [(0.0, 0.0), (6.0, 100.0), (8.0, 50.0), (10.0, 0.0), (12.0, 0.0)]
    whole, working = busy_share(samples)
    assert whole == pytest.approx(3 / 12)
    assert working == pytest.approx(3 / 4)
    assert busy_share([(0.0, 0.0), (1.0, 0.0)]) == (0.0, 0.0)
    assert busy_share([]) == (0.0, 0.0)


def test_the_roofline_is_the_peak_over_the_networks_arithmetic() -> None:
    gpu = Gpu("H", "2", 530.0)
    assert gpu.roofline == pytest.approx(10_000)
    stock, mine = Speed("stock demucs", 8.0), Speed("stemwright", 1.0, snr_db=61.0)
    told = speed_rows([stock, mine, Speed("unblend", failure="pip: no")], 240, gpu)
    assert "| stemwright | 3600 | 240 | 2.4 % | 8.00 |" in told[3]
    assert "not measured: pip: no" in told[4]
    assert len({row.count("|") for row in told}) == 1


def test_without_cuda_the_gpu_benchmark_measures_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.benchmarks import gpu

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpu() is None
    monkeypatch.setattr(sys, "argv", ["gpu"])
    gpu.main()
    assert "nothing was measured" in capsys.readouterr().out

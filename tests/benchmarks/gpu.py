"""Separation on a GPU, beside stock demucs and unblend: `python -m tests.benchmarks.gpu`.

Full-size HTDemucs with random weights on the same torch for all. Each separates one track and then
several, as processes of their own; the difference is what a track costs once the model is loaded.
Then a catalog goes through `stemwright separate`, all stages and Prefect included, while the
driver is asked how busy the GPU is. Beside it stands the roofline: what the arithmetic alone would
take at the rate of a large matrix product. Without a CUDA device it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks import contenders
from tests.benchmarks.child import NotRun, measure, median, stem_files, worst_agreement_db
from tests.benchmarks.contenders import Contender, Job
from tests.benchmarks.full_size import MODELS, RANDOM, STEMS, make_music, ready, scratch_folder
from tests.benchmarks.gpu_load import busy_share, watching
from tests.benchmarks.results import ROOT, write_result

# At overlap 0.25: some 310 GFLOP a segment, which yields 5.85 s of the track.
GFLOP_PER_AUDIO_S = 53.0

# A process of its own: torch in this one would count into its children's peak memory.
_PROBE = """
import json, torch
if not torch.cuda.is_available():
    print("null")
    raise SystemExit
size, rounds = 8192, 50
a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
for _ in range(5):
    a @ b
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
begin.record()
for _ in range(rounds):
    a @ b
end.record()
torch.cuda.synchronize()
seconds = begin.elapsed_time(end) / 1000
print(json.dumps({"name": torch.cuda.get_device_name(), "torch": torch.__version__,
                  "tflops": 2 * size**3 * rounds / seconds / 1e12}))
"""


@dataclass(frozen=True)
class Gpu:
    """The first CUDA device.

    Attributes:
        name: The driver's.
        torch: Its version.
        tflops: 10^12 operations a second, of products of 8192 x 8192 matrices in bf16.
    """

    name: str
    torch: str
    tflops: float

    @property
    def roofline(self) -> float:
        """Times real time that the network's arithmetic would allow at that rate."""
        return self.tflops * 1000 / GFLOP_PER_AUDIO_S


@dataclass(frozen=True)
class Speed:
    """What one separator reached.

    Attributes:
        track_s: Wall seconds that one more track takes.
        start_s: What a single track takes beyond that: start, loading, compiling.
        peak_mib: Of host memory.
        snr_db: Of the stem that is least like stock's; None for stock.
        failure: Why the rest means nothing.
    """

    name: str
    track_s: float = 0.0
    start_s: float = 0.0
    peak_mib: float = 0.0
    snr_db: float | None = None
    failure: str = ""


def find_gpu() -> Gpu | None:
    """The device and its peak, measured; None where torch can't use one."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout)
    return Gpu(**found) if found else None


def steady_s(one: float, many: float, tracks: int) -> float:
    """Seconds that one more track takes, from the wall time of 1 track and of `tracks` of them.

    Raises:
        NotRun: Several were no slower than one: there is too little to measure.
    """
    if many <= one:
        raise NotRun(f"{tracks} tracks took no longer than one; take longer ones")
    return (many - one) / (tracks - 1)


def make_tracks(folder: Path, count: int, seconds: float) -> list[Path]:
    """Different music for each, so that none is a duplicate."""
    folder.mkdir(parents=True)
    tracks = [folder / f"{number:03d}.flac" for number in range(count)]
    for seed, track in enumerate(tracks):
        make_music(track, seconds, seed)
    return tracks


def compare(
    every: Sequence[Contender], tracks: Sequence[Path], scratch: Path, model: str, repeats: int
) -> list[Speed]:
    """The speed of each, and its stems beside those of the first, which is stock."""
    speeds = []
    folders = [scratch / contender.name.replace(" ", "-") for contender in every]
    for contender, folder in zip(every, folders, strict=True):
        job = Job(tracks, folder / "stems", model, device="cuda", bit_depth=24)
        try:
            reached = _speed(contender, job, repeats)
            if speeds:
                theirs, mine = (
                    stem_files(each / "stems" / tracks[0].stem, STEMS)
                    for each in (folders[0], folder)
                )
                reached = replace(reached, snr_db=worst_agreement_db(mine, theirs))
            speeds.append(reached)
        except NotRun as error:
            speeds.append(Speed(contender.name, failure=str(error)))
    return speeds


def _speed(contender: Contender, job: Job, repeats: int) -> Speed:
    one = replace(job, tracks=job.tracks[:1])
    contender.ready(job)
    contender.run(one)  # Not counted: some compile what stays on the disk.
    ones = median([contender.run(one) for _ in range(repeats)])
    many = median([contender.run(job) for _ in range(repeats)])
    track_s = steady_s(ones.wall_s, many.wall_s, len(job.tracks))
    return Speed(contender.name, track_s, ones.wall_s - track_s, many.peak_mib)


def speed_rows(speeds: Sequence[Speed], seconds: float, gpu: Gpu) -> list[str]:
    """A table: times real time, share of the roofline, and against the first."""
    stock = speeds[0]
    rows = [
        "| separator | tracks an hour | × real time | of the roofline | × stock | start | host RSS "
        "| worst stem's SNR |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in speeds:
        if each.failure:
            reason = each.failure.replace("|", "/")
            rows.append(f"| {each.name} | not measured: {reason} | | | | | | |")
            continue
        factor = seconds / each.track_s
        times = "" if stock.failure else f"{stock.track_s / each.track_s:.2f}"
        snr = "" if each.snr_db is None else f"{each.snr_db:.0f} dB"
        rows.append(
            f"| {each.name} | {3600 / each.track_s:.0f} | {factor:.0f} "
            f"| {100 * factor / gpu.roofline:.1f} % | {times} | {each.start_s:.1f} s "
            f"| {each.peak_mib:.0f} MiB | {snr} |"
        )
    return rows


def catalog(count: int, seconds: float, model: str, scratch: Path) -> str:
    """How busy the GPU is while a catalog goes through the whole flow, in a sentence."""
    tracks = make_tracks(scratch / "catalog", count, seconds)
    command = [
        *(sys.executable, "-c", "from flows.cli import main; main()", "separate"),
        *(scratch / "catalog", "--library", scratch / "library", "--model", model),
        *("--models-dir", MODELS, "--provider", "local_gpu", "--offline"),
    ]
    environment = {"PREFECT_HOME": str(scratch / "prefect")}
    try:
        with watching() as samples:
            took = measure(command, scratch / "catalog.log", environment)
        whole, working = busy_share(samples)
    except NotRun as error:
        return f"Whole flow: not measured: {error}."
    return (
        f"Whole flow, {len(tracks)} tracks: {took.wall_s:.0f} s, "
        f"{count * seconds / took.wall_s:.0f} × real time, {3600 * count / took.wall_s:.0f} "
        f"tracks an hour; the GPU was busy {100 * whole:.0f} % of the time, and "
        f"{100 * working:.0f} % from its first use to its last."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=240, help="of a track")
    parser.add_argument("--tracks", type=int, default=8, help="in a process; at least 2")
    parser.add_argument("--catalog", type=int, default=30, help="tracks through the flow; 0: none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without", nargs="*", choices=["unblend"], default=[])
    given = parser.parse_args()
    gpu = find_gpu()
    if gpu is None:
        print("torch finds no CUDA device here: nothing was measured, and no table was written.")
        return

    model = next(iter(RANDOM))
    ready(model)
    every = [contenders.stock(), contenders.ours()]
    if "unblend" not in given.without:
        every.append(contenders.unblend())
    with scratch_folder() as name:
        scratch = Path(name)
        tracks = make_tracks(scratch / "tracks", max(2, given.tracks), given.seconds)
        table = speed_rows(
            compare(every, tracks, scratch, model, given.repeats), given.seconds, gpu
        )
        print("\n".join(table), flush=True)
        flow = catalog(given.catalog, given.seconds, model, scratch) if given.catalog else ""
    about = (
        f"{gpu.name}, torch {gpu.torch}. {model}, tracks of {given.seconds:g} s, `shifts` 0, "
        f"overlap 0.25, FLAC to WAV files; medians of {given.repeats}. A track's time is that of "
        f"{len(tracks)} less that of one. Roofline: {gpu.tflops:.0f} TFLOP/s (bf16, 8192 x 8192, "
        f"measured) at {GFLOP_PER_AUDIO_S:g} GFLOP a second of audio allow {gpu.roofline:.0f} "
        "× real time."
    )
    write_result("gpu", "\n".join([*table, "", *filter(None, [flow]), "", about]))


if __name__ == "__main__":
    main()

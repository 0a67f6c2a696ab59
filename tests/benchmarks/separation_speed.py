"""Time of separating on the CPU, beside stock demucs and its peers:
`python -m tests.benchmarks.separation_speed`.

Full-size HTDemucs with random weights, the same for all, from a file to float WAV files, each
separator as a process of its own, its start and the loading of the model included. Repetitions
take turns, so that what else the machine does falls on all alike; what is told are medians.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks import contenders
from tests.benchmarks.child import (
    Measured,
    NotRun,
    median,
    stem_files,
    worst_agreement_db,
    written_as,
)
from tests.benchmarks.contenders import Contender, Job
from tests.benchmarks.full_size import RANDOM, music, ready, scratch_folder
from tests.benchmarks.results import use_cores, write_result

OURS: dict[str, Callable[[], Contender]] = {
    "torch": lambda: contenders.ours("stemwright (torch)", {"openvino": "off"}),
    "openvino": lambda: contenders.ours("stemwright (OpenVINO)", {"openvino": "on"}),
    "bf16": lambda: contenders.ours(
        "stemwright (OpenVINO, bf16)", {"openvino": "on", "precision": "bf16"}
    ),
}
PEERS: dict[str, Callable[[], Contender]] = {
    "demucs-infer": contenders.demucs_infer,
    "audio-separator": contenders.audio_separator,
}

HEAD = (
    "| job | separator | wall | CPU | peak RSS | stock's wall over it | stock's CPU over it "
    "| worst stem's SNR | stems |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)

_WARM_S = 4.0  # Seconds of music in a run that isn't counted.


@dataclass
class Entry:
    """What one separator did with one job.

    Attributes:
        runs: Those that ended well.
        snr_db: Of the stem that is least like stock's; None for stock itself.
        depth: Of the stems' samples.
        failure: Why there is nothing to tell.
    """

    contender: Contender
    runs: list[Measured] = field(default_factory=list)
    snr_db: float | None = None
    depth: str = ""
    failure: str = ""


def compare(every: Iterable[Contender], job: Job, repeats: int) -> list[Entry]:
    """Run all of them `repeats` times in turn, and compare the last stems with stock's.

    Args:
        every: Stock first. One that fails is not run again.
        job: Of one track; each has a folder of its own in `out`.
    """
    entries = [Entry(contender) for contender in every]

    def each(step: Callable[[Entry], object]) -> None:
        for entry in entries:
            if not entry.failure:
                try:
                    step(entry)
                except NotRun as error:
                    entry.failure = str(error)

    # The first run of a fresh environment compiles its modules, and some keep what they converted.
    warm = replace(job, tracks=[music(_WARM_S)])
    each(lambda entry: entry.contender.ready(job))
    each(lambda entry: _run(entry, warm))
    for _ in range(repeats):
        each(lambda entry: entry.runs.append(_run(entry, job)))
    each(lambda entry: _judge(entry, entries[0], job))
    return entries


def _run(entry: Entry, job: Job) -> Measured:
    return entry.contender.run(_own(entry, job))


def _own(entry: Entry, job: Job) -> Job:
    return replace(job, out=job.out / entry.contender.name.replace(" ", "-"))


def _stems(entry: Entry, job: Job) -> dict[str, Path]:
    (track,) = job.tracks
    return stem_files(_own(entry, job).out / track.stem, job.wanted)


def _judge(entry: Entry, stock: Entry, job: Job) -> None:
    stems = _stems(entry, job)
    entry.depth = written_as(stems)
    if entry is stock:
        return
    if stock.failure:
        raise NotRun(f"there are no stems of {stock.contender.name} to compare with")
    entry.snr_db = worst_agreement_db(stems, _stems(stock, job))


def rows(label: str, entries: Sequence[Entry]) -> list[str]:
    """One job as rows of the table; a separator that failed has its reason in it."""
    stock = None if entries[0].failure else median(entries[0].runs)
    out = []
    for entry in entries:
        start = f"| {label} | {entry.contender.name} |"
        if entry.failure:
            reason = entry.failure.replace("|", "/")
            out.append(f"{start} not measured: {reason} | | | | | | |")
            continue
        own = median(entry.runs)
        ratios = ["", ""]
        if stock:
            ratios = [f"{stock.wall_s / own.wall_s:.2f}", f"{stock.cpu_s / own.cpu_s:.2f}"]
        snr = "" if entry.snr_db is None else f"{entry.snr_db:.0f} dB"
        out.append(
            f"{start} {own.wall_s:.1f} s | {own.cpu_s:.1f} s | {own.peak_mib:.0f} MiB "
            f"| {ratios[0]} | {ratios[1]} | {snr} | {entry.depth} |"
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    single, bag = RANDOM
    parser.add_argument("--seconds", type=float, nargs="*", default=[60, 240], help="of tracks")
    parser.add_argument("--bag-seconds", type=float, default=60, help="0: no bag")
    parser.add_argument("--model", default=single)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2, help="of this machine, for each of them")
    given = parser.parse_args()
    use_cores(given.cores)

    mine = [make() for make in OURS.values()]
    peers = [PEERS[name]() for name in given.peers]
    jobs = [
        (f"{seconds:g} s", given.model, seconds, None, [contenders.stock(), *mine, *peers])
        for seconds in given.seconds
    ]
    if given.bag_seconds:
        label = f"{given.bag_seconds:g} s, vocals of a bag of 4"
        jobs.append((label, bag, given.bag_seconds, "vocals", [contenders.stock(), *mine]))
    table = [HEAD]
    with scratch_folder() as scratch:
        for number, (label, model, seconds, stem, every) in enumerate(jobs):
            ready(model)
            job = Job([music(seconds)], Path(scratch) / str(number), model, stem)
            table += rows(label, compare(every, job, given.repeats))
            print("\n".join(table[-len(every) :]), flush=True)
    note = (
        f"{given.model}, and for vocals alone {bag} (the released architecture, random "
        "weights; the bag has four): `shifts` 0, overlap 0.25, from a float WAV "
        "file to WAV files, start and loading included, each separator a process of its own that "
        f"has run once before. Medians of {given.repeats} runs, taken in turns. Peak RSS is of the "
        "largest process; the SNR is that against stock demucs' stems."
    )
    write_result("separation_speed", "\n".join([*table, "", note]))


if __name__ == "__main__":
    main()

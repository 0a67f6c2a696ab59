"""Memory of separating four minutes and an hour, beside stock demucs:
`python -m tests.benchmarks.separation_memory`.

The same weights on the CPU in processes of their own, from the same FLAC file to 24-bit WAV files:
our separator, and the `demucs` CLI. Prints peak resident memory, time, and how alike the stems
are, and how much more memory the longest track took than the shortest. With `--model
random_htdemucs` it is full-size HTDemucs, an hour of which takes two cores the better part of one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import contenders
from tests.benchmarks.child import Measured, NotRun, stem_files, worst_agreement_db
from tests.benchmarks.contenders import Contender, Job
from tests.benchmarks.full_size import EMBEDDED, RANDOM, STEMS, music, ready, scratch_folder
from tests.benchmarks.results import write_result

HEAD = (
    "| track | peak RSS, ours | stock demucs | stock over ours | wall, ours | stock "
    "| stock over ours | worst stem's agreement |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


@dataclass(frozen=True)
class Length:
    """One track's length, separated by us and by stock.

    Attributes:
        ours: Of our separator.
        stock: Of stock demucs, or why there is none.
        agreement_db: Of the stem that is least like stock's.
    """

    minutes: float
    ours: Measured
    stock: Measured | str
    agreement_db: float = 0.0

    @property
    def row(self) -> str:
        mine = self.ours
        start = f"| {self.minutes:g} min | {mine.peak_mib:.0f} MiB |"
        if isinstance(self.stock, str):
            return f"{start} {self.stock.replace('|', '/')} | | {mine.wall_s:.0f} s | | | |"
        stock = self.stock
        return (
            f"{start} {stock.peak_mib:.0f} MiB | {stock.peak_mib / mine.peak_mib:.1f} "
            f"| {mine.wall_s:.0f} s | {stock.wall_s:.0f} s | {stock.wall_s / mine.wall_s:.2f} "
            f"| {self.agreement_db:.0f} dB |"
        )


def compare(minutes: float, model: str, scratch: Path, stock: Contender | None) -> Length:
    """Separate one length with ours and, unless None, with stock."""
    track = music(minutes * 60, ".flac")

    def job(name: str) -> Job:
        return Job([track], scratch / name, model, bit_depth=24)

    mine = contenders.ours().run(job("ours"))
    if stock is None:
        return Length(minutes, mine, "not asked for")
    try:
        theirs = stock.run(job("stock"))
        folders = (scratch / name / track.stem for name in ("ours", "stock"))
        return Length(
            minutes,
            mine,
            theirs,
            worst_agreement_db(*(stem_files(each, STEMS) for each in folders)),
        )
    except NotRun as error:
        return Length(minutes, mine, f"not measured: {error}")


def growth(lengths: Sequence[Length]) -> str:
    """What the longest track's memory is beyond the shortest's, in percent."""
    ordered = sorted(lengths, key=lambda each: each.minutes)
    first, last = ordered[0], ordered[-1]
    more = 100 * (last.ours.peak_mib / first.ours.peak_mib - 1)
    return f"{last.minutes:g} min take us {more:+.1f} % more memory than {first.minutes:g} min."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[4, 60])
    parser.add_argument("--model", choices=[EMBEDDED, *RANDOM], default=EMBEDDED)
    parser.add_argument("--no-stock", action="store_true", help="ours alone")
    given = parser.parse_args()
    ready(given.model)
    stock = None if given.no_stock else contenders.stock()
    lengths = []
    for minutes in given.minutes:
        with scratch_folder() as scratch:
            lengths.append(compare(minutes, given.model, Path(scratch), stock))
            print(lengths[-1].row, flush=True)
    about = (
        f"The model {given.model} on the CPU, FLAC file to 24-bit WAV files, start and loading "
        f"included. {growth(lengths)}"
    )
    name = "separation_memory" + ("" if given.model == EMBEDDED else f"_{given.model}")
    write_result(name, "\n".join([HEAD, *(each.row for each in lengths), "", about]))


if __name__ == "__main__":
    main()

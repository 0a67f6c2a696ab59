"""Cost of reviewing a library and of true SDRs: `python -m tests.benchmarks.catalog_cost`.

Reviews tables of ten and a hundred thousand tracks (four stems each), and holds four stems of four
and of twenty minutes against true ones, each in a process of its own. Beside it, museval alone on
two minutes: it needs a whole track at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.results import write_result

RATE = 44_100
ROOT = Path(__file__).resolve().parents[2]
NAMES = ("drums", "bass", "other", "vocals")

_END = """
import json, resource
print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
_REVIEW = """
import sys, time
import numpy as np
from datetime import timedelta
from tasks.quality.calibration import calibrate, population_frame, standings
from tests.quality.populations import DAY, tables, together

count = int(sys.argv[1])
draw = np.random.default_rng(0)
parts = [
    tables(list(draw.normal(0.7, 0.1, count // 20)), genre=f"genre {n}", first=n * count,
           stems=("drums", "bass", "other", "vocals"), spectral_entropy=0.5,
           created_at=DAY + timedelta(days=n))
    for n in range(20)
]
tracks, stems = together(*parts)

class Held:
    url, is_local = "held", True
    def tracks(self): return tracks
    def stems(self): return stems
    def write_document(self, name, data): pass

from flows.reviewing import Period, review
import flows.review_page, scipy.stats
begun = time.process_time()
review(Held(), Period.from_date(DAY + timedelta(days=15)))
spent = time.process_time() - begun
"""
_COMPARE = """
import sys, time
from pathlib import Path
from tasks.quality.reference import compare, museval_metrics
names = ("drums", "bass", "other", "vocals")
museval_metrics()
true, made = ({n: Path(sys.argv[1]) / f"{side}-{n}.flac" for n in names} for side in "te")
begun = time.process_time()
compare(true, made)
spent = time.process_time() - begun
"""
_WHOLE = """
import sys, time
import numpy as np, soundfile
from tasks.quality.reference import museval_metrics
names = ("drums", "bass", "other", "vocals")
read = lambda side: np.array([soundfile.read(f"{sys.argv[1]}/{side}-{n}.flac")[0] for n in names])
true, made = read("t"), read("e")
begun = time.process_time()
museval_metrics().bss_eval(true, made, window=44100, hop=44100)
spent = time.process_time() - begun
"""


def measure(program: str, *args: object) -> tuple[float, float]:
    """CPU seconds of the measured part, and the process's highest resident memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", program + _END, *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    spent, peak = json.loads(done.stdout.splitlines()[-1])
    return spent, peak


def write_stems(folder: Path, minutes: int) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name in NAMES:
        with (
            soundfile.SoundFile(folder / f"t-{name}.flac", "w", RATE, 2, "PCM_16") as true,
            soundfile.SoundFile(folder / f"e-{name}.flac", "w", RATE, 2, "PCM_16") as made,
        ):
            for _ in range(minutes * 6):
                samples = draw.normal(0, 0.05, (10 * RATE, 2))
                true.write(samples)
                made.write(samples + draw.normal(0, 0.02, samples.shape))
    return folder


def main() -> None:
    rows = []
    for count in (10_000, 100_000):
        rows.append((f"review of {count:,} tracks, 4 stems each", *measure(_REVIEW, count)))
    with tempfile.TemporaryDirectory() as scratch:
        for minutes in (2, 4, 20):
            folder = write_stems(Path(scratch) / str(minutes), minutes)
            if minutes == 2:
                rows.append(("museval alone, whole track of 2 min", *measure(_WHOLE, folder)))
            rows.append((f"SI-SDR and SDR of 4 stems of {minutes} min", *measure(_COMPARE, folder)))
    lines = ["| | CPU s | peak RSS, MiB |", "| --- | ---: | ---: |"]
    lines += [f"| {what} | {spent:.1f} | {peak:,.0f} |" for what, spent, peak in rows]
    write_result("catalog_cost", "\n".join(lines))


if __name__ == "__main__":
    main()

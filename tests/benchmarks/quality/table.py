"""One row a stem of every separation: the truth beside all that the blind score measures.

stems.parquet: `piece, genre, case, stem`; `kind` ("true", "separator", or a degradation's name),
`strength, separator, stage`; `touched` (whether this stem was changed), `zero_sum`; `absent`
(the reference stem is under -30 dB of the mixture: no truth); `true_si_sdr_db`, `true_sdr_db` and
`q_db`, the lesser of them; and each of the stem's measures as `m_NAME`.

tracks.parquet: one row a separation, with `q_mean_db` and `q_least_db` over the stems that have a
truth, and the track's measures as `m_NAME`. Scores are in neither: the model that makes them is
fitted on these tables, which mustn't change when it does.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.quality import score_separation
from tests.data.studio.score import STEMS

FACTS = ("piece", "genre", "case", "kind", "strength", "separator", "stage")


def build(folder: Path) -> None:
    """Measures every case that has no rows yet and writes both tables."""
    cases = sorted((folder / "cases").glob("*/*/case.json"))
    begun, measured = time.monotonic(), 0
    for path in cases:
        rows = _rows_file(folder, path)
        if not rows.exists():
            rows.parent.mkdir(parents=True, exist_ok=True)
            found = measure(folder, json.loads(path.read_text()))
            rows.with_suffix(".part").write_text(json.dumps(found))
            rows.with_suffix(".part").replace(rows)
            measured += 1
            if measured % 100 == 0:
                print(f"{measured} measured in {time.monotonic() - begun:.0f} s", flush=True)
    write(folder)


def write(folder: Path) -> None:
    """Both tables from the rows at hand."""
    stems: list[dict[str, Any]] = []
    tracks: list[dict[str, Any]] = []
    for path in sorted((folder / "rows").glob("*/*.json")):
        found = json.loads(path.read_text())
        stems += found["stems"]
        tracks.append(found["track"])
    for name, rows in (("stems", stems), ("tracks", tracks)):
        frame = pd.DataFrame(rows)
        measures = [column for column in frame.columns if column.startswith("m_")]
        frame[measures] = frame[measures].astype(float)
        scratch = folder / f"{name}.part"
        frame.to_parquet(scratch, index=False)
        scratch.replace(folder / f"{name}.parquet")
        print(f"{name}.parquet: {len(frame)} rows, {len(measures)} measures", flush=True)


def forget(folder: Path) -> None:
    """Drops all rows, so that everything is measured anew."""
    shutil.rmtree(folder / "rows", ignore_errors=True)


def measure(folder: Path, case: Mapping[str, Any]) -> dict[str, Any]:
    """A case's rows, through the public scoring function."""
    files = {name: folder / path for name, path in case["files"].items()}
    report = score_separation(files["mixture"], {name: files[name] for name in STEMS})
    facts = {name: case.get(name) for name in FACTS}
    facts["strength"] = None if facts["strength"] is None else float(facts["strength"])
    stems, known = [], []
    for name in STEMS:
        truth, judged = case["truth"][name], report.stems[name]
        q = None if truth["absent"] else min(truth["si_sdr"], truth["sdr"])
        known += [] if q is None else [q]
        stems.append(
            facts
            | {"stem": name, "touched": name in case["touched"],
               "zero_sum": bool(case.get("zero_sum")), "absent": truth["absent"],
               "true_si_sdr_db": truth["si_sdr"], "true_sdr_db": truth["sdr"], "q_db": q}
            | {f"m_{key}": value for key, value in judged.measures.items()}
        )  # fmt: skip
    track = facts | {"q_mean_db": sum(known) / len(known), "q_least_db": min(known)}
    track |= {f"m_{key}": value for key, value in report.measures.items()}
    return {"stems": stems, "track": track}


def _rows_file(folder: Path, case_file: Path) -> Path:
    case = case_file.parent
    return folder / "rows" / case.parent.name / f"{case.name}.json"

"""Fits the score's model on the benchmark's table and writes it as data.

    python -m tests.benchmarks.quality.corpus build/quality
    python -m tests.benchmarks.quality.fit build/quality

The same table gives the same file to the last bit. `--check` fits and compares, writing nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.quality.model import CEILINGS, MODEL_FILE, ScoreModel
from tests.benchmarks.quality import discriminant, indicators
from tests.benchmarks.quality.evaluation import coverage, figures, interval
from tests.benchmarks.quality.regression import (
    WORST_DB,
    Fitted,
    Spec,
    fit,
    leave_one_genre_out,
)

MODEL = Path(__file__).parents[3] / "tasks" / "quality" / MODEL_FILE
LIBRARIES = ("numpy", "scipy", "pandas", "librosa")
DIGITS = 3

ESTIMATE = Spec("est_sdr_db", "low", (-6.0, -3.0, 0.0, 3.0, 6.0, 9.0, 12.0, 16.0))
ROUGH = Spec("rough_db", "high", (2.5, 5.0, 9.0))
MOTION = Spec("contrary_motion", "high", (0.0, 0.05, 0.12, 0.2))
GAPS = (
    Spec("dropout_frac", "high", (0.0, 0.05, 0.2, 0.5)),
    Spec("tail_cut_s", "high", (0.5, 2.0, 6.0)),
)
TERMS: tuple[Spec, ...] = (
    ESTIMATE,
    Spec("xcorr_max", "high", (0.1, 0.25, 0.5, 0.9)),
    ROUGH,
    MOTION,
)
"""What the ablation left. The knots span what true and broken stems show."""

SOME_TERMS: tuple[Spec, ...] = (ESTIMATE, *GAPS, ROUGH, MOTION)
"""The same where some stems weren't kept: what gaps lost isn't known then, only their length."""

TRIED: tuple[Spec, ...] = (
    *GAPS,
    Spec("missing_db", "high", (-25.0, -15.0, -8.0, -3.0, 3.0)),
    Spec("leak_db", "high", (-30.0, -20.0, -12.0, -6.0, -2.0)),
    Spec("assignment_entropy", "high", (0.2, 0.35, 0.5, 0.7)),
    Spec("ls_gain_error", "high", (0.05, 0.3, 0.7, 1.5)),
    Spec("collapse_db", "high", (-30.0, -15.0, -3.0)),
    Spec("spectral_entropy", "high", (0.2, 0.35, 0.5, 0.65, 0.8)),
    Spec("spectral_flatness", "high", (0.0, 0.01, 0.05, 0.2, 0.5)),
    Spec("spectral_entropy_delta", "low", (-0.3, -0.1, 0.0, 0.1, 0.3)),
    Spec("cuts_per_min", "high", (0.0, 10.0, 60.0)),
    Spec("clip_log_ppm", "high", (1.8, 3.0, 4.5)),
    Spec("cliff_rel_db", "high", (20.0, 35.0, 60.0)),
)
"""What added nothing on held-out genres beside the terms; some are indicators all the same."""

SCORE_KNOTS_DB = (2.0, 12.0)
"""The score rises from 0 to 1 over these: fail under 5 dB and review under 8 dB by default."""


def load(folder: Path) -> pd.DataFrame:
    """Every stem that is there, and that the blind measures don't tell absent: they score it."""
    table = pd.read_parquet(folder / "stems.parquet")
    there = ~table["absent"].astype(bool) & (table["m_relative_energy_db"] >= -30)
    order = ["piece", "kind", "separator", "stage", "case", "stem"]
    return table[there].sort_values(order, kind="stable").reset_index(drop=True)


def concerned(table: pd.DataFrame) -> pd.DataFrame:
    """The rows to fit and to judge by: without the stems that stand intact beside a damaged one."""
    rows = table["touched"].astype(bool) | (table["kind"] == "true")
    return table[rows].reset_index(drop=True)


def score_of(estimate_db: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, Any]:
    """0 to 1 for estimates in dB."""
    return np.asarray(np.interp(estimate_db, SCORE_KNOTS_DB, (0.0, 1.0)))


def without_the_sum(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it reads when not all stems are there: nothing is known to be missing."""
    estimate = np.clip(-table["m_cross_db"].to_numpy(dtype=np.float64), -15, 25)
    return table.assign(m_est_sdr_db=estimate, m_lost_db=np.nan)


def ablation(table: pd.DataFrame, terms: Sequence[Spec] = TERMS) -> pd.DataFrame:
    """Held-out figures of all terms, of each left out, of the first alone, and of one more.

    Also without each ceiling, which is no term: what it is made of is known, not fitted. And the
    terms that serve where some stems weren't kept, each left out.
    """
    sets = {"all": tuple(terms), "est_sdr_db alone": (ESTIMATE,)}
    sets |= {f"without {t.measure}": tuple(o for o in terms if o is not t) for t in terms}
    sets |= {f"with {t.measure} too": (*terms, t) for t in TRIED}
    rows = {name: _held_out(table, specs) for name, specs in sets.items()}
    for ceiling in CEILINGS:
        unknown = table.assign(**{f"m_{ceiling}": np.nan})
        rows[f"without {ceiling}"] = _held_out(unknown, terms)
    kept = without_the_sum(table)
    rows["some stems: all"] = _held_out(kept, SOME_TERMS)
    for term in SOME_TERMS[1:]:
        specs = tuple(spec for spec in SOME_TERMS if spec is not term)
        rows[f"some stems: without {term.measure}"] = _held_out(kept, specs)
    return pd.DataFrame(rows).T


def _held_out(table: pd.DataFrame, specs: Sequence[Spec]) -> dict[str, float]:
    found = figures(table, leave_one_genre_out(table, specs), score_of)
    return {key: value for key, value in found.items() if not isinstance(value, dict)}


def model_of(everything: pd.DataFrame) -> dict[str, Any]:
    """The whole model as JSON types, without the date."""
    table = concerned(everything)
    kept = without_the_sum(table)
    held_out = leave_one_genre_out(table, TERMS)
    held_out_partial = leave_one_genre_out(kept, SOME_TERMS)
    found = figures(table, held_out, score_of)
    found["interval_coverage"] = coverage(table, held_out)
    found["spearman_separators_some_stems"] = figures(kept, held_out_partial, score_of)[
        "spearman_separators"
    ]
    timbre = discriminant.fit(table)
    found |= discriminant.figures(everything)
    return {
        "schema_version": 1,
        "provenance": {
            "script": "tests/benchmarks/quality/fit.py",
            "corpus_sha256": digest(everything),
            "rows": {
                str(kind): int(n) for kind, n in table["kind"].value_counts().sort_index().items()
            },
            "genres": sorted(table["genre"].unique()),
            "versions": {"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
            "figures": rounded(found),
        },
        "all_stems": formula(fit(table, TERMS), interval(table, held_out)),
        "some_stems": formula(fit(kept, SOME_TERMS), interval(kept, held_out_partial)),
        "score": {"at": list(SCORE_KNOTS_DB), "values": [0.0, 1.0]},
        "indicators": rounded(indicators.fit(table)),
        "stem_likelihood": rounded(timbre),
    }


def formula(fitted: Fitted, bounds: dict[str, Any]) -> dict[str, Any]:
    """A fitted model as the score's file has it; terms that cost nothing are left out."""
    terms = []
    for spec in fitted.specs:
        curve = fitted.curve(spec)
        if curve.max() < 0.05:
            continue
        terms.append({
            "measure": spec.measure,
            "worse": spec.worse,
            "cost_db": {"at": list(spec.knots), "values": rounded(curve.tolist())},
        })  # fmt: skip
    best = round(fitted.best_db, DIGITS)
    return {"best_db": best, "worst_db": WORST_DB, "terms": terms, "interval": rounded(bounds)}


def digest(table: pd.DataFrame) -> str:
    """SHA-256 of the fitted rows, whatever the file's compression."""
    hashed = pd.util.hash_pandas_object(table[sorted(table.columns)], index=False)
    return hashlib.sha256(hashed.to_numpy().tobytes()).hexdigest()


def rounded(value: Any) -> Any:
    """Floats to three digits, however deep, so that the last bits of a CPU don't show."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(float(value), DIGITS) if isinstance(value, float) else value


def dated(model: dict[str, Any], path: Path = MODEL) -> dict[str, Any]:
    """The model with its date: today, or the stored one's where nothing else has changed."""
    made = datetime.now(UTC).date().isoformat()
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        before = stored["provenance"].pop("made")
        made = before if stored == json.loads(json.dumps(model)) else made
    return model | {"provenance": {"made": made} | model["provenance"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the corpus was made")
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--ablation", action="store_true", help="print what each term adds")
    parser.add_argument("--check", action="store_true", help="fail unless the file is as fitted")
    options = parser.parse_args()
    table = load(options.folder)
    if options.ablation:
        print(ablation(concerned(table)).round(3).to_string())
    model = dated(model_of(table), options.out)
    text = json.dumps(model, indent=1, ensure_ascii=False) + "\n"
    ScoreModel.model_validate_json(text)
    print(json.dumps(model["provenance"]["figures"], indent=1))
    if not options.check:
        options.out.write_text(text, encoding="utf-8")
    elif options.out.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{options.out} isn't what this table gives")


if __name__ == "__main__":
    main()

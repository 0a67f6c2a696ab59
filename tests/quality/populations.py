"""Tables of reports as a library gives them, made from populations that are known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from tasks.recording.tables import schema

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def tables(
    scores: Sequence[float | None],
    *,
    model: str = "htdemucs",
    genre: str = "rock",
    first: int = 0,
    stems: Sequence[str] = ("vocals",),
    created_at: datetime = DAY,
    **columns: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`reports/tracks` and `reports/stems`: a track a score, its stems with that score too.

    `columns` are further columns of the stems: one value for all, or one each track.
    """
    ids = [f"{model}-{genre}-{first + number:06d}" for number in range(len(scores))]
    tracks = pd.DataFrame(
        {
            "track_id": ids,
            "separation_id": f"{model}-0123abcd",
            "model": model,
            "genre": genre,
            "score": pd.array(scores, dtype="Float64"),
            "verdict": "pass",
            "created_at": created_at,
        }
    ).reindex(columns=schema("tracks").names)
    per_stem = [
        tracks[["track_id", "separation_id", "score", "verdict", "created_at"]].assign(
            stem=stem, **columns
        )
        for stem in stems
    ]
    return tracks, pd.concat(per_stem).reindex(columns=schema("stems").names)


def together(*parts: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Several such tables as one library's."""
    tracks, stems = zip(*parts, strict=True)
    return pd.concat(tracks, ignore_index=True), pd.concat(stems, ignore_index=True)

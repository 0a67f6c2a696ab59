"""What a run comes to: counts, a line a track (up to a bound), and how it must end."""

from __future__ import annotations

from pydantic import BaseModel

from flows.runner.setup import Prepared
from tasks.contracts import Failure, Run, TrackReport, Verdict, track_label
from tasks.outcome import Done, Duplicate, Failed
from tasks.recording import Library, TrackRow
from tasks.run_context import TrackState

KEPT = 10_000


def by_words(provider: str) -> str:
    """Who made a separation, in words."""
    return "this machine" if provider == "local" else provider


class TrackLine(BaseModel):
    """One track of a run, as the command's `--json` and the table artifact show it.

    Its fields but for `label`, `status`, `folder` and `stems` are columns of `reports/tracks`.
    """

    source: str
    label: str
    status: str
    track_id: str | None = None
    separation_id: str | None = None
    folder: str | None = None
    stems: dict[str, str] = {}
    """The path or URL of each stem's file."""
    title: str = ""
    artist: str = ""
    guessed: list[str] = []
    genre: str = ""
    duration_s: float | None = None
    engine: str | None = None
    provider: str | None = None
    device: str | None = None
    route: list[str] = []
    cost_usd: float | None = None
    score: float | None = None
    estimated_si_sdr_db: float | None = None
    estimated_si_sdr_low_db: float | None = None
    estimated_si_sdr_high_db: float | None = None
    percentile: float | None = None
    residual_db: float | None = None
    verdict: Verdict | None = None
    reasons: list[str] = []
    worst: str = ""
    separation_s: float | None = None
    pipeline_s: float | None = None
    realtime_factor: float | None = None


class RunSummary(BaseModel):
    """The end of a run. `tracks` and `failures` hold the first `KEPT`; the library has them all."""

    library: str
    run_id: str
    flow_run_name: str = ""
    separation_id: str
    model: str
    engine: str
    provider: str = "local"
    device: str
    reasons: list[str]
    done: int = 0
    already: int = 0
    duplicates: int = 0
    failed: int = 0
    under_gate: int = 0
    separated_s: float = 0.0
    by_provider: dict[str, int] = {}
    """How many tracks each provider made."""
    cost_usd: float = 0.0
    halted: str = ""
    """Why the run ended before its catalog did; empty if it didn't."""
    tracks: list[TrackLine] = []
    failures: list[Failure] = []

    @property
    def found(self) -> int:
        return self.done + self.already + self.duplicates + self.failed

    @property
    def exit_code(self) -> int:
        if self.failed:
            return 1
        return 3 if self.under_gate else 0

    @property
    def headline(self) -> str:
        """One sentence for the end of the run."""
        parts = [f"{self.done} separated{self._makers}"]
        if self.already:
            parts.append(f"{self.already} already done")
        if self.duplicates:
            parts.append(f"{self.duplicates} the same audio as another")
        parts.append(f"{self.failed} failed")
        if self.under_gate:
            parts.append(f"{self.under_gate} under the quality gate")
        ended = f" The run ended early: {self.halted}" if self.halted else ""
        return f"{', '.join(parts)}.{ended}"

    @property
    def _makers(self) -> str:
        """Who made them and for how much, where a service was to or did."""
        if not self.by_provider or {self.provider, *self.by_provider} == {"local"}:
            return ""
        made = [f"{count} by {by_words(name)}" for name, count in self.by_provider.items()]
        cost = [f"${self.cost_usd:.2f}"] if self.cost_usd else []
        return f" ({', '.join([*made, *cost])})"

    def add(self, track: TrackState, fail_under: float) -> None:
        """Count a track that has ended."""
        match track.outcome:
            case Failed(failure):
                self.add_failure(failure)
                return
            case Done(report):
                self.done += 1
                self.separated_s += report.duration_s
                self._count_maker(report)
                score = report.quality.score
                self.under_gate += score is not None and score < fail_under
            case Duplicate():
                self.duplicates += 1
            case _:
                self.already += 1
        if len(self.tracks) < KEPT:
            self.tracks.append(_line(track, self.library))

    def _count_maker(self, report: TrackReport) -> None:
        made_by = report.stem_set.provider
        self.by_provider[made_by] = self.by_provider.get(made_by, 0) + 1
        self.cost_usd += report.stem_set.cost_usd

    def add_failure(self, failure: Failure) -> None:
        self.failed += 1
        if len(self.failures) < KEPT:
            self.failures.append(failure)


def empty_summary(prepared: Prepared, library: str, run: Run) -> RunSummary:
    """Return the summary of a run of which no track has ended."""
    route = prepared.route
    return RunSummary(
        library=library,
        run_id=run.run_id,
        flow_run_name=run.flow_run_name,
        separation_id=prepared.accepted_ids[0],
        model=prepared.model,
        engine=route.engine,
        provider=route.provider,
        device=route.device or route.provider,
        reasons=list(route.reasons),
    )


def _line(track: TrackState, library: str) -> TrackLine:
    outcome = track.outcome
    known: dict[str, object] = {"source": track.ref.source, "label": track.label}
    if outcome:
        known["status"] = outcome.status
    if track.place:
        track_id, separation_id = track.place
        folder = f"{library}/tracks/{track_id}/{separation_id}"
        known |= {"track_id": track_id, "separation_id": separation_id, "folder": folder}
        if isinstance(outcome, Done):
            stems = outcome.report.stem_set.stems
            known["stems"] = {name: f"{folder}/{path.name}" for name, path in stems.items()}
    row = _columns(TrackRow.of(outcome.report)) if isinstance(outcome, Done) else {}
    return TrackLine.model_validate(row | known)


def _columns(row: TrackRow) -> dict[str, object]:
    return row.model_dump(include=set(TrackLine.model_fields))


def with_known(summary: RunSummary, library: Library) -> RunSummary:
    """Fill in what the library has of the tracks that needed nothing done: score, stems and all."""
    wanted = {
        (line.track_id, line.separation_id)
        for line in summary.tracks
        if line.status != "done" and line.track_id
    }
    if not wanted:
        return summary
    frame = library.tracks()
    rows = frame[frame.set_index(["track_id", "separation_id"]).index.isin(wanted)]
    read = map(TrackRow.read, rows.to_dict("records"))
    known = {(row.track_id, row.separation_id): row for row in read}
    places = library.stem_places({track_id for track_id, _ in known})

    def filled(line: TrackLine) -> TrackLine:
        key = line.track_id or "", line.separation_id or ""
        row = known.get(key)
        if row is None or line.status == "done":
            return line
        unnamed = line.label == track_label("", "", line.source)
        label = row.label if unnamed else line.label
        own = {"source": line.source, "label": label, "stems": places.get(key, {})}
        return TrackLine.model_validate(line.model_dump() | _columns(row) | own)

    return summary.model_copy(update={"tracks": [filled(line) for line in summary.tracks]})

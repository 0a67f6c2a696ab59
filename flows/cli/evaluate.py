"""`stemwright evaluate`: separations held against reference stems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from flows.cli import options as opt
from flows.cli.console import Exit, busy, complain, err, errors_shown, out, plain, print_json, safe
from flows.cli.tables import fitted, many
from tasks.wording import number

if TYPE_CHECKING:
    from flows.evaluating import Evaluation, Evaluator, TrackResult
    from flows.reference_stems import ReferenceTrack
    from flows.runner.setup import Prepared
    from tasks.quality.reference import Agreement


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="MIXTURES_WITH_STEMS",
            show_default=False,
        ),
    ],
    model: opt.Model = "",
    library: Annotated[
        str,
        typer.Option(
            "--library",
            metavar="DIR",
            help="Evaluate the separations that are in this library; separate nothing.",
            show_default=False,
        ),
    ] = "",
    config: opt.Config = None,
    models_dir: opt.ModelsDir = "",
    provider: opt.ProviderChoice = None,
    limit: opt.Limit = 0,
    offline: opt.Offline = False,
    as_json: opt.AsJson = False,
) -> None:
    """Separate mixtures whose reference stems are known, and say how good stems and score are.

    Stems are judged by SI-SDR, and by SDR as museval defines it; the score, which doesn't know the
    reference stems, by how well it agreed.

    MIXTURES_WITH_STEMS is a folder of tracks as MUSDB18-HQ has them: each a folder with mixture and
    the reference stems (drums, bass, other, vocals) as .wav or .flac.

    Example: stemwright evaluate ~/musdb18hq/test --model htdemucs
    """
    with errors_shown(as_json):
        from flows.cli.separate import read_settings
        from flows.runner.setup import prepare
        from tasks.quality.reference import museval_metrics

        museval_metrics()
        if library:
            found = _kept(folder, library, model, limit)
        else:
            options = opt.RunOptions(
                sources=["-"],
                model=model,
                config=config,
                models_dir=models_dir,
                provider=provider,
                offline=offline,
            )
            with busy("looking at the settings and the hardware…"):
                prepared = prepare(read_settings(options))
            found = _made(folder, prepared, limit)
        code = _exit_code(found)
        if as_json:
            print_json(_document(found) | {"exit_code": int(code)})
        else:
            _show(found)
        raise typer.Exit(code)


def _made(folder: Path, prepared: Prepared, limit: int) -> Evaluation:
    """Of separations made now."""
    from flows.evaluating import Evaluation, by_separating
    from flows.reference_stems import find_tracks

    found = Evaluation(
        model=prepared.model,
        separation_id=prepared.accepted_ids[0],
        device=prepared.route.device,
    )
    try:
        tracks = find_tracks(folder, prepared.engine.info.sources)[: limit or None]
        return _followed(found, tracks, by_separating(prepared))
    finally:
        prepared.engine.close()


def _kept(folder: Path, library: str, model: str, limit: int) -> Evaluation:
    """Of what is in a library already."""
    from flows.evaluating import Evaluation, from_library
    from flows.reference_stems import find_tracks
    from tasks.contracts import STEMS
    from tasks.recording import Library

    place = Library(library)
    names = dict.fromkeys([*STEMS, *place.stems()["stem"]])
    tracks = find_tracks(folder, list(names))[: limit or None]
    found = _followed(Evaluation(model=model), tracks, from_library(place, model))
    found.model = model or ", ".join(sorted({track.model for track in found.tracks if track.model}))
    return found


def _followed(found: Evaluation, tracks: list[ReferenceTrack], evaluator: Evaluator) -> Evaluation:
    from flows.evaluating import evaluate_each

    try:
        for track in evaluate_each(tracks, evaluator):
            found.tracks.append(track)
            _tell(track, len(found.tracks), len(tracks))
    except KeyboardInterrupt:
        found.interrupted = True
        complain(f"{len(found.tracks)} of {len(tracks)} tracks were done.", what="interrupted")
    return found


def _tell(track: TrackResult, count: int, total: int) -> None:
    at = f"[dim]{count}/{total}[/] {safe(track.track)}"
    if track.error:
        complain(f"{track.track}: {track.error}", what="not evaluated")
        return
    stems = ", ".join(f"{name} {number(s.sdr_db, 1)}" for name, s in track.stems.items())
    err.print(f"{at}: SDR {stems} dB")


def _exit_code(found: Evaluation) -> Exit:
    if found.interrupted:
        return Exit.INTERRUPTED
    return Exit.SOME_FAILED if found.failed else Exit.DONE


def _document(found: Evaluation) -> dict[str, Any]:
    return found.model_dump(mode="json") | {
        "stems": {name: stem.model_dump(mode="json") for name, stem in found.stems.items()},
        "mean_sdr_db": found.mean_sdr_db,
        "agreement": found.agreement.model_dump(mode="json"),
        "failed": [track.track for track in found.failed],
    }


def _show(found: Evaluation) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("stem")
    columns = ("tracks", "SDR", "SI-SDR", "estimated", "error", "rank corr.", "in interval")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for name, stem in found.stems.items():
        table.add_row(
            Text(plain(name)),
            str(stem.tracks),
            number(stem.sdr_db, 2, " dB"),
            number(stem.si_sdr_db, 2, " dB"),
            number(stem.estimated_si_sdr_db, 2, " dB"),
            *_agreed(stem.agreement),
        )
    table.add_section()
    table.add_row("all", "", number(found.mean_sdr_db, 2, " dB"), "", "", *_agreed(found.agreement))
    out.print(fitted(table, out))
    done = len(found.tracks) - len(found.failed)
    out.print(
        f"{many(done, 'track')} with {safe(found.model)}. Medians over tracks; of SDR (museval's, "
        "over seconds) a median of medians, and under it the mean over stems."
    )
    out.print(
        "Estimated: the SI-SDR that the score gives without the reference stems. Error: its mean "
        "absolute error."
    )


def _agreed(found: Agreement) -> tuple[str, str, str]:
    share = None if found.coverage is None else 100 * found.coverage
    return number(found.mae_db, 1, " dB"), number(found.spearman, 2), number(share, 0, " %")

"""`stemwright models`: which separation models there are, and where their weights are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from flows.cli import options as opt
from flows.cli.console import (
    Exit,
    complain,
    err,
    errors_shown,
    moving,
    out,
    print_json,
    safe,
    tell,
)
from flows.cli.tables import fitted

app = typer.Typer(
    help="Separation models: where weights are, their hashes, licence, what is missing.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=opt.model_names)]
NameOrAll = Annotated[
    str, typer.Argument(metavar="[NAME]", autocompletion=opt.model_names, show_default=False)
]


def _folder(models_dir: str) -> Path | None:
    """The folder that is named, else the one that a run with this configuration looks in."""
    from blocks.settings import load_settings

    return Path(models_dir).expanduser() if models_dir else load_settings().models_dir


@app.command("list")
def list_(models_dir: opt.ModelsDir = "", as_json: opt.AsJson = False) -> None:
    """List the released models and those in the models folder.

    Example: stemwright models list --models-dir /srv/models
    """
    from tasks.separation.models import list_models

    with errors_shown(as_json):
        entries = list_models(_folder(models_dir))
        if as_json:
            print_json({"models": [entry.model_dump(mode="json") for entry in entries]})
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("model", "weights", "SDR", "size", "stems", "what it is"):
            table.add_column(heading, overflow="fold")
        for entry in entries:
            sdr = "" if entry.published_sdr_db is None else f"{entry.published_sdr_db:.1f} dB"
            size = f"{entry.size_bytes / 1e6:.0f} MB" if entry.size_bytes else ""
            here = "[green]here[/]" if entry.present else "[dim]not here[/]"
            if entry.needs:
                here = f"[dim]needs {entry.family}[/]"
            if entry.problem:
                here = "[red]problem[/]"
            stems = " ".join(entry.stems)
            table.add_row(entry.name, here, sdr, size, stems, safe(entry.description))
        out.print(fitted(table, out))
        for family, needs in {(entry.family, entry.needs) for entry in entries if entry.needs}:
            err.print(f"[dim]For those that need {family}: {safe(needs)}[/]")
        for entry in entries:
            if entry.problem:
                complain(entry.problem, what=entry.name)


@app.command()
def show(name: Name, models_dir: opt.ModelsDir = "", as_json: opt.AsJson = False) -> None:
    """Show one model: its weights, hash, stems and licence, or what is missing.

    Example: stemwright models show embedded
    """
    from tasks.separation.models import find_model, list_models

    with errors_shown(as_json):
        folder = _folder(models_dir)
        known = {entry.name: entry for entry in list_models(folder)}
        entry = known.get(name)
        if entry is not None and not entry.present and not entry.problem:
            shown = entry.model_dump(mode="json")
        else:
            # An unknown name, refused weights, or all well: the store says which.
            spec = find_model(name, models_dir=folder, offline=True)
            described = entry.model_dump(mode="json") if entry else {}
            shown = described | spec.model_dump(mode="json")
        if as_json:
            print_json(shown)
            return
        for key, value in shown.items():
            if value not in (None, "", [], ()):
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                tell(key, safe(text), pad=18)


@app.command()
def fetch(
    name: Name,
    models_dir: opt.ModelsDir = "",
    offline: opt.Offline = False,
    as_json: opt.AsJson = False,
) -> None:
    """Fetch a released model's weights; what is here already isn't fetched again.

    A transfer that breaks off goes on where it stopped, at once or with the next such command.

    Example: stemwright models fetch htdemucs
    """
    from tasks.separation.models import find_model

    with errors_shown(as_json):
        err.print(f"[dim]looking for {safe(name)}…[/]")
        with _bars() as on_progress:
            spec = find_model(
                name, models_dir=_folder(models_dir), offline=offline, on_progress=on_progress
            )
        if as_json:
            print_json(spec.model_dump(mode="json"))
        else:
            out.print(f"{spec.name} is here: {', '.join(str(path) for path in spec.weights)}")


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each file that is fetched, on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=err.is_terminal and not moving()) as progress:
        bars: dict[str, TaskID] = {}

        def on_progress(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(safe(name))
            progress.update(bars[name], completed=done, total=total or None)

        yield on_progress


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    name: Annotated[str, typer.Option("--name", help="What to call the model.")] = "",
    models_dir: opt.ModelsDir = "",
    trust: Annotated[
        bool, typer.Option("--trust", help="Open the pickle: it runs whatever code is in it.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Convert a pickled demucs checkpoint (.th) to safetensors in the models folder.

    One that demucs published needs no --trust; lying in the models folder, not even this command.

    Example: stemwright models import mine.th --trust --models-dir ./models
    """
    from tasks.errors import SettingsError
    from tasks.separation.models import import_checkpoint, models_folder

    with errors_shown(as_json):
        folder = models_folder(_folder(models_dir))
        if folder is None:
            raise SettingsError(
                "there is no models folder to import into.",
                remedy="Name one with --models-dir or STEMWRIGHT_MODELS.",
            )
        made = import_checkpoint(file, folder, name or None, trust=trust)
        if as_json:
            print_json({"weights": str(made), "models_dir": str(folder)})
        else:
            out.print(f"Wrote {made}.")


@app.command()
def verify(
    name: NameOrAll = "",
    models_dir: opt.ModelsDir = "",
    as_json: opt.AsJson = False,
) -> None:
    """Read weights through and check their hashes: one model's, or all that are here.

    Exits with 1 if something is wrong.

    Example: stemwright models verify embedded
    """
    from tasks.separation.models import list_models
    from tasks.separation.models import verify as verify_model

    with errors_shown(as_json):
        folder = _folder(models_dir)
        present = [entry.name for entry in list_models(folder) if entry.present]
        checked = [verify_model(each, models_dir=folder) for each in ([name] if name else present)]
        if as_json:
            print_json({"models": [each.model_dump(mode="json") for each in checked]})
        else:
            for each in checked:
                for path, digest in each.files.items():
                    out.print(f"{each.name:<14} {digest}  {path}")
                for problem in each.problems:
                    complain(problem, what=each.name)
        if not all(each.sound for each in checked):
            raise typer.Exit(Exit.SOME_FAILED)

"""The `stemwright` command. Importing it is cheap: what is heavy is imported by what needs it."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from flows.cli import (
    demo,
    doctor,
    endpoint,
    evaluate,
    export,
    forget,
    gallery,
    models,
    plan,
    prune,
    reports,
    review,
    separate,
    verify,
)
from flows.cli.console import Exit, complain, error_document, print_json
from flows.cli.streams import hold_folder, hold_names, hold_streams, lost_output


class _Command(TyperGroup):
    """The command, which answers a usage error with JSON too where JSON was asked for."""

    def main(self, *args: Any, **how: Any) -> Any:
        given = args[0] if args else how.get("args")
        as_json = "--json" in (sys.argv[1:] if given is None else given)
        if not as_json or not how.get("standalone_mode", True):
            return super().main(*args, **how)
        try:
            sys.exit(super().main(*args, **how | {"standalone_mode": False}) or 0)
        except USAGE_ERROR as error:
            from typer.rich_utils import rich_format_error

            rich_format_error(error)
            print_json(error_document(error.exit_code, "UsageError", error.format_message()))
            sys.exit(error.exit_code)


# Typer shows its usage errors to users, but names only this one of them.
USAGE_ERROR: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="stemwright",
    cls=_Command,
    help="Separate a catalog of music into stems, and know how good each separation is.",
    epilog="Start with: [bold]stemwright demo[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("separate")(separate.separate)
app.command("plan")(plan.plan)
app.command("reports")(reports.reports)
app.command("export")(export.export)
app.command("gallery")(gallery.gallery)
app.command("forget")(forget.forget)
app.command("prune")(prune.prune)
app.command("verify")(verify.verify)
app.command("review")(review.review)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.command("doctor")(doctor.doctor)
app.command("endpoint")(endpoint.endpoint)
for _command in (*app.registered_commands, *models.app.registered_commands):
    # A docstring's line breaks would be kept, whatever the terminal's width.
    _paragraphs = (getattr(_command.callback, "__doc__", None) or "").split("\n\n")
    _command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in _paragraphs)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"stemwright {version('stemwright')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """The console script's entry."""
    hold_names()
    hold_streams()
    if not hold_folder():
        gone = "the working folder was deleted; nothing is found in it or written to it."
        complain(gone, "Give whole paths, --library too, or change to another folder.", what="note")
    code: Any = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    if why := lost_output():
        complain(
            f"the results can't be written to stdout: {why}.", "Make room, or write elsewhere."
        )
        code = code or Exit.SOME_FAILED
    sys.exit(code)

"""The flow that reviews a library: calibration, drift, and what is newly flagged."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field, field_validator

from blocks.settings import load_settings
from flows.parameters import ConfigFile, LibraryUrl, Parameters, SettingsBlock
from flows.review_page import flagged_rows, review_page
from flows.reviewing import Period, ReviewSummary, review
from flows.runner.artifacts import kept_quiet
from tasks.recording import Library

_A_DATE = (
    r"^([12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([T ][0-9:.]{2,15}(Z|[+-][0-9:]{2,8})?)?)?$"
)
_CENTURY_DAYS = 36_500


class ReviewedLibrary(Parameters):
    """Which library."""

    library: LibraryUrl = ""
    config: ConfigFile = ""
    settings_block: SettingsBlock = ""
    write: bool = Field(
        default=True,
        title="Update the calibration",
        description="Off: only look. On: the next runs take their percentiles from this review.",
    )


class ReviewPeriod(Parameters):
    """What counts as new, and what it is held against."""

    since: str = Field(
        default="",
        pattern=_A_DATE,
        title="Since",
        description="A date such as 2026-11-01, UTC. Empty: the last days, as set below.",
    )
    days: float = Field(
        default=7.0,
        gt=0,
        le=_CENTURY_DAYS,
        title="Days",
        description="The period's length, without a date.",
    )
    against_days: float = Field(
        default=0.0,
        ge=0,
        le=_CENTURY_DAYS,
        title="Against days",
        description="Compare with so many days before the period; 0 is all that was before.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, title="Confidence", description="Of the drifts' intervals."
    )
    tolerance: float = Field(
        default=0.02,
        ge=0,
        le=1,
        title="Tolerance",
        description="A smaller fall of the score (0 to 1) is no drift, however certain.",
    )

    @field_validator("since")
    @classmethod
    def _is_a_date(cls, value: str) -> str:
        if value:
            datetime.fromisoformat(value)
        return value

    def period(self) -> Period:
        """The two periods, as of now."""
        if self.since:
            return Period.from_date(datetime.fromisoformat(self.since), self.against_days)
        return Period.of_days(self.days, self.against_days)


@flow(
    name="review-catalog",
    flow_run_name="review",
    description="Calibrate a library to itself, measure how scores moved between two periods, and "
    "list what is newly flagged. It reads the tables, separates nothing and changes no report.",
    persist_result=False,
)
def review_catalog(
    library: ReviewedLibrary = ReviewedLibrary(),  # noqa: B008 - frozen defaults make the form
    period: ReviewPeriod = ReviewPeriod(),  # noqa: B008
) -> State[ReviewSummary]:
    """Review a library.

    Args:
        library: Which library.
        period: What counts as new, and what it is held against.
    """
    settings = load_settings(
        Path(library.config) if library.config else None,
        {"library": library.library} if library.library else {},
        block=library.settings_block or None,
    )
    summary = review(
        Library(settings.library),
        period.period(),
        confidence=period.confidence,
        tolerance=period.tolerance,
        write=library.write,
    )
    get_run_logger().info("%s", summary.headline)
    _show(summary)
    return review_state(summary)


def review_state(summary: ReviewSummary) -> State[ReviewSummary]:
    """The state a review ends in: Completed, with the name "Drifted" when a model's scores fell
    and "NothingNew" when the period has no report. The state's data is the summary."""
    name = None
    if not summary.new_reports:
        name = "NothingNew"
    elif summary.fallen:
        name = "Drifted"
    return Completed(name=name, message=summary.headline, data=summary)


def _show(summary: ReviewSummary) -> None:
    """A page and a table in the UI."""
    page = review_page(summary)
    kept_quiet(
        lambda: create_markdown_artifact(
            page, key="catalog-review", description=f"{summary.headline} {summary.library}"
        )
    )
    if rows := flagged_rows(summary):
        kept_quiet(
            lambda: create_table_artifact(
                rows,
                key="newly-flagged",
                description=f"{summary.flagged_count:,} tracks flagged in {summary.library}",
            )
        )

"""A separation service as settings name it: how it is asked, and what it may cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr

from tasks.contracts import Value
from tasks.errors import StemwrightError
from tasks.separation.breaker import Breaker, breaker_of
from tasks.separation.budget import Budget, Limit, Period
from tasks.separation.cloud.providers import provider_names
from tasks.separation.routing import ServiceFacts

if TYPE_CHECKING:
    from tasks.separation.cloud.providers.base import CloudProvider

EXAMPLE_BASE_URL = "https://api.example.com/v1"
"""The address in the article's template: it stands for an API and is none."""


def from_json(value: Any) -> Any:
    """A text as the JSON that it holds: an environment variable can hold nothing else."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        # json's own error keeps the whole text, keys included.
        raise ValueError("must be JSON") from None


def _options(value: Any) -> Any:
    """Texts, as options are: YAML reads some of them as numbers."""
    found = from_json(value)
    if not isinstance(found, Mapping):
        return found
    plain = int | float
    return {
        key: str(item) if isinstance(item, plain) and not isinstance(item, bool) else item
        for key, item in found.items()
    }


def _clean_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if not (key.isascii() and all("!" <= char <= "~" for char in key)):
        raise ValueError("holds a character that no API key has, such as a space or a line break")
    return SecretStr(key)


def _clean_base_url(value: str) -> str:
    url = value.strip().rstrip("/")
    if not url:
        return ""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("holds a user name or a password; a key belongs in engine.api_key")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"must be an address such as {EXAMPLE_BASE_URL}")
    return url


def _clean_name(value: str) -> str:
    if not value.replace("-", "").replace("_", "").replace(".", "").isalnum() and value:
        raise ValueError("must be made of letters, digits, dots, dashes and underscores")
    return value


def _known(value: str) -> str:
    *others, last = provider_names()
    if value not in (*others, last):
        raise ValueError(f"must be {', '.join(others)} or {last}")
    return value


ServiceName = Annotated[
    str,
    AfterValidator(_known),
    # A form offers those that are there when it is made.
    Field(json_schema_extra=lambda schema: schema.update(enum=list(provider_names()))),
]


class CloudApi(Value):
    """A separation service: which one, where it is, its key, its patience, and what it may cost."""

    model_config = ConfigDict(hide_input_in_errors=True)

    service: ServiceName = Field(
        default="stemwright",
        title="Service",
        description="Whose API it is; stemwright is what `stemwright endpoint` serves.",
    )
    api_key: Annotated[SecretStr, AfterValidator(_clean_key)] = Field(
        default=SecretStr(""), title="API key", description="Sent to the API's own origin only."
    )
    base_url: Annotated[str, AfterValidator(_clean_base_url)] = Field(
        default="",
        title="Base URL",
        description="Up to and without /separate. Empty is the service's published address.",
    )
    service_options: Annotated[dict[str, str], BeforeValidator(_options)] = Field(
        default={}, title="Options", description="Of this service, such as its model or workflow."
    )
    name: Annotated[str, AfterValidator(_clean_name)] = Field(
        default="",
        max_length=40,
        title="Name",
        description="What reports and limits call it; empty is the service's own name.",
    )
    max_retries: int = Field(
        default=20, ge=0, le=1000, title="Retries", description="Of one request or poll, at most."
    )
    backoff_multiplier: float = Field(
        default=1.5, ge=1, le=10, title="Backoff multiplier", description="Of the wait, each time."
    )
    max_backoff_seconds: float = Field(
        default=30.0, gt=0, le=3600, title="Longest wait", description="Between polls, in seconds."
    )
    usd_per_minute: float = Field(
        default=0.0,
        ge=0,
        title="Price",
        description="Dollars a minute of audio; 0 goes by the service's published price.",
    )
    limit_minutes: float = Field(
        default=0.0, ge=0, title="Limit, minutes", description="Of audio a period; 0 is no limit."
    )
    limit_usd: float = Field(
        default=0.0, ge=0, title="Limit, dollars", description="A period; 0 is no limit."
    )
    limit_period: Period = Field(
        default="month", title="Period", description="Of the limits, by UTC."
    )

    @property
    def label(self) -> str:
        """What reports, logs and limits call it."""
        return self.name or self.service

    @property
    def missing(self) -> str:
        """What stands in the way of asking it, as in "its api_key is not set"; or nothing."""
        if not self.api_key.get_secret_value() and not self._may_be_keyless:
            return "its api_key is not set"
        if self.service != "stemwright":
            return ""
        if not self.base_url:
            return "its base_url is not set"
        example = self.base_url == EXAMPLE_BASE_URL
        return "its base_url is the article's example" if example else ""

    @property
    def _may_be_keyless(self) -> bool:
        """`stemwright endpoint` without keys listens on the loopback, and nowhere else."""
        from tasks.separation.cloud.origins import is_on_loopback

        return self.service == "stemwright" and is_on_loopback(self.base_url)

    def make_provider(self) -> CloudProvider:
        """Make the provider; asks nobody.

        Raises:
            SettingsError: An option or address that it can't use.
        """
        from tasks.separation.cloud.providers import make_provider

        return make_provider(
            self.service,
            base_url=self.base_url,
            api_key=self.api_key,
            options=self.service_options,
        )

    def breaker(self) -> Breaker:
        """Return the breaker that this process has for it."""
        return breaker_of(self.label, self.base_url)

    def budget(self) -> Budget | None:
        """Return the book of what goes to it, where there is a limit or a price."""
        if not (self.limit_minutes or self.limit_usd or self.usd_per_minute):
            return None
        limit = Limit(minutes=self.limit_minutes, usd=self.limit_usd, period=self.limit_period)
        return Budget(self.label, limit)

    def facts(self) -> ServiceFacts:
        """Return what routing has to know of it; asks nobody."""
        paused = note = ""
        wait_s = self.breaker().left_s
        if wait_s > 0:
            paused = f"it is left alone for {wait_s:.0f} s more after repeated faults"
        if budget := self.budget():
            try:
                spent = budget.spent()
            except StemwrightError as error:
                note = error.cause.rstrip(".")
            else:
                note = spent.sentence
                if spent.used_up:
                    paused = f"its limit is reached until {spent.resets:%Y-%m-%d %H:%M} UTC"
        return ServiceFacts(
            name=self.label,
            usd_per_minute=self.usd_per_minute,
            blocked=self.missing,
            paused=paused,
            note=note,
        )

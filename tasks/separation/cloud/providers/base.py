"""What a separation provider is to us: one class, which each file beside this one fills.

It maps a provider's words to ours and nothing else. Retries, polling, the jobs under way, downloads
and the safety of URLs are the client's; HTTP itself is the transport's.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SecretStr

from tasks.contracts import STEMS, StemFormat
from tasks.errors import (
    BudgetSpent,
    ProtocolError,
    RateLimited,
    SettingsError,
    SourceRefused,
    StemwrightError,
)
from tasks.separation.cloud.answers import Answer, broken
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.providers import PROVIDERS
from tasks.separation.cloud.transport import Transport
from tasks.separation.models.families import known_model

DEMUCS_STEMS = ("drums", "bass", "other", "vocals", "guitar", "piano")
DEMUCS_MODELS = (
    "htdemucs",
    "htdemucs_ft",
    "htdemucs_6s",
    "hdemucs_mmi",
    "mdx",
    "mdx_extra",
    "mdx_q",
    "mdx_extra_q",
)
_OPTIONS = "engine.service_options"
_WORDS = 300
_NUMBER = re.compile(r"\d+(\.\d+)?")
_MONEY = re.compile(r"\b(credits?|balance|billing|payment|top.?up)\b", re.IGNORECASE)


class Reply(BaseModel):
    """A part of a service's answer: fields that we don't know are left alone."""

    model_config = ConfigDict(extra="ignore")


class CloudProvider(ABC):
    """One provider: its key, its options and its names for our stems.

    Holds no connection and no state of a job. A subclass with a `name` is known by it to settings,
    reports and the command from then on.

    Attributes:
        name: What settings and reports call it.
        address: Its published address, where it has one.
        defaults: Its options and their usual values.
        stems: Its names for our stems.
        formats: In which it gives stems.
        most_bytes: The largest upload that it takes.
        free_prefixes: Options with any name after this.

    Args:
        base_url: By default the service's published address.
        api_key: Sent to the service and shown nowhere.
        options: `engine.service_options`; `stem.OURS=THEIRS` renames a stem.

    Raises:
        SettingsError: An option that it doesn't have, or a price or length that is none.
    """

    name: str = ""
    address: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, str]] = {}
    stems: ClassVar[Mapping[str, str]] = {}
    formats: ClassVar[tuple[StemFormat, ...]] = ("wav", "flac")
    most_bytes: ClassVar[int] = 10 * 1024**3
    free_prefixes: ClassVar[tuple[str, ...]] = ("stem.",)

    def __init_subclass__(cls) -> None:
        if cls.name:
            PROVIDERS[cls.name] = cls

    def __init__(
        self, *, base_url: str = "", api_key: SecretStr, options: Mapping[str, str] = {}
    ) -> None:
        self.base_url = (base_url or self.address).rstrip("/")
        self._key = api_key
        for option in options:
            if option not in self.defaults and not option.startswith(self.free_prefixes):
                raise self._no_such_option(option)
        self.options = {**self.defaults, **options}
        for option, usual in self.defaults.items():
            if _NUMBER.fullmatch(usual):
                self.number(option)
        renamed = {k.removeprefix("stem."): v for k, v in options.items() if k.startswith("stem.")}
        self.stem_names = {**self.stems, **renamed}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    @abstractmethod
    def auth(self) -> dict[str, str]:
        """Return the headers that carry the key."""

    @abstractmethod
    async def submit(self, transport: Transport, request: ProviderRequest) -> ProviderJob:
        """Upload the audio and have it separated, never paid for twice."""

    @abstractmethod
    async def ask(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest
    ) -> ProviderJob:
        """Return the job as it stands, with fresh URLs; one request where the provider allows it.

        The handle may change: where a provider gives a whole job up over one stem, the rest is
        ordered anew under the same job id. It is kept, so that a later run goes on with it.

        Raises:
            SourceRefused, NotAudio: The provider gave the track up; the job is no use any more.
        """

    @abstractmethod
    async def forget(self, transport: Transport, job: ProviderJob) -> None:
        """Cancel the job, or remove what the provider keeps of it, where it offers that."""

    def price_usd(self, request: ProviderRequest) -> float:
        """Return what a request will cost by the published prices; 0 where it's free."""
        return 0.0

    def check(self, request: ProviderRequest) -> None:
        """Refuse, before anything is sent, what the provider can't make.

        Raises:
            SettingsError: It has no such stem or model, or an option is missing.
        """
        if not self._key.get_secret_value():
            raise SettingsError(
                f"{self.name} needs an API key.", remedy="Set engine.api_key.", stage="separate"
            )
        strangers = [stem for stem in request.stems if stem not in self.stem_names]
        if strangers:
            raise SettingsError(
                f"{self.name} has no stem {', '.join(strangers)} of {request.model}; it has "
                f"{', '.join(self.stem_names)}.",
                stage="separate",
                remedy=f"Ask for other stems, or name its own in {_OPTIONS} "
                f"(stem.{strangers[0]}: …).",
            )

    def fits(self, request: ProviderRequest) -> None:
        """Refuse a file that the service takes none as large as, before it is uploaded."""
        size = request.path.stat().st_size
        if size > self.most_bytes:
            raise SourceRefused(
                f"{self.name} takes no file over {self.most_bytes >> 20} MiB; this has "
                f"{size >> 20}.",
                stage="separate",
                remedy="Separate this track with another engine.",
            )

    def format_of(self, request: ProviderRequest) -> StemFormat:
        """What to ask for: the format that is wanted, else a lossless one that the service has."""
        return request.format if request.format in self.formats else self.formats[0]

    def refusal(self, answer: Answer, asked_for: str) -> StemwrightError | None:
        """Return the error that a status other than 2xx stands for; None for the usual meaning.

        402 is an account used up, and so is a 403 that speaks of money; 400 and 422 are our
        request's fault.
        """
        said = words_of(answer)
        spent = answer.status == 403 and _MONEY.search(said)
        if answer.status == 402 or spent:
            return self.out_of_credit(said)
        if answer.status in (400, 422):
            return SettingsError(
                f"{self.name} refused {asked_for} ({answer.status}: {said}).",
                stage="separate",
                remedy=f"Check {_OPTIONS}.",
            )
        return None

    def out_of_credit(self, said: str) -> BudgetSpent:
        return BudgetSpent(
            f"the account at {self.name} is used up ({said}).",
            stage="separate",
            remedy="Top it up, or let another engine take over.",
        )

    def number(self, option: str) -> float:
        """An option as a number of zero or more.

        Raises:
            SettingsError: It isn't one.
        """
        try:
            value = float(self.options[option])
        except ValueError:
            value = -1.0
        if not math.isfinite(value) or value < 0:
            raise SettingsError(
                f"{_OPTIONS}.{option} is {self.options[option]!r}, which is no price or length."
            )
        return value

    def _no_such_option(self, option: str) -> SettingsError:
        known = sorted({*self.defaults, *(f"{prefix}NAME" for prefix in self.free_prefixes)})
        if not known:
            said = f"{self.name} has no option {option[:80]!r}."
            return SettingsError(said, remedy=f"Remove {_OPTIONS}.")
        near = difflib.get_close_matches(option, known, n=1)
        hint = f"; near is {near[0]}" if near else f"; there are {', '.join(known)}"
        return SettingsError(f"{self.name} has no option {option[:80]!r}{hint}.")


def known_stems(model: str) -> tuple[str, ...]:
    """Return the stems of a model; the usual four of one that we don't know."""
    known = known_model(model)
    return known.stems if known else STEMS


def model_stems(request: ProviderRequest) -> tuple[str, ...]:
    """Return every stem of the request's model, asked for or not."""
    return request.stems if request.all_stems else known_stems(request.model)


def upload_name(request: ProviderRequest) -> str:
    """What the upload is called: nothing of the track's own name, which may be anything."""
    suffix = request.path.suffix
    return f"mixture{suffix}" if re.fullmatch(r"\.[A-Za-z0-9]+", suffix) else "mixture"


def words_of(answer: Answer) -> str:
    """What a refusal says, in whichever field the service says it."""
    try:
        said: Any = json.loads(answer.body)
    except ValueError:
        return answer.body[:_WORDS].decode("utf-8", "replace").strip() or "no words"
    for field in ("detail", "message", "error", "title"):
        if isinstance(said, dict) and said.get(field):
            said = said[field]
    return (said if isinstance(said, str) else json.dumps(said, ensure_ascii=False))[:_WORDS]


def code_of(answer: Answer) -> str:
    """The machine-readable word of a refusal; empty where it has none."""
    try:
        said: Any = json.loads(answer.body)
    except ValueError:
        return ""
    code = said.get("code") or said.get("error_type") if isinstance(said, dict) else None
    return code if isinstance(code, str) else ""


def url_part(job_id: str) -> str:
    """A job's id, if it can stand in a path.

    Raises:
        ProtocolError: It can't.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", job_id, re.ASCII):
        raise ProtocolError(
            f"the service gave a job id that fits no URL: {job_id[:80]!r}.", stage="separate"
        )
    return job_id


def unknown_status(name: str, status: str, body: bytes) -> StemwrightError:
    """A status word that the service's documentation doesn't have."""
    return broken(f"{name} gave a job the status {status[:60]!r}", body)


def failed(job: ProviderJob, said: str | None) -> ProviderJob:
    """The job, failed for good, in the service's words."""
    words = said or "the service doesn't say why"
    return job.model_copy(
        update={"status": "failed", "stems": None, "error_message": words[:_WORDS]}
    )


def throttled(said: str, wait_s: float) -> RateLimited:
    return RateLimited(
        f"the service is asked too often (429: {said}).", retry_after_s=wait_s, stage="separate"
    )

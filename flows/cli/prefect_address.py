"""Where Prefect's API is, by whose word, and whether it answers."""

from __future__ import annotations

import os
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.config import dictConfig
from pathlib import Path
from typing import Any

from flows.cli.own_prefect import QUIET
from tasks.errors import SettingsError

VARIABLE = "PREFECT_API_URL"
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Address:
    """An API's URL, who set it, and how to do without."""

    url: str
    origin: str
    without: str

    @property
    def remedy(self) -> str:
        return f"Start it (`prefect server start`), or to do without one {self.without}."


def read_address() -> Address | None:
    """Return the API that the user set; None if none is set.

    Raises:
        SettingsError: Prefect's own settings can't be read; with the file and the place in it.
    """
    profiles = _read_profiles()
    if not profiles and not _is_configured():
        return None
    with _settings_named():
        from prefect.settings import Settings

        url = Settings().api.url
    if not url:
        return None
    if os.environ.get(VARIABLE):
        return Address(url, f"the variable {VARIABLE}", f"unset {VARIABLE}")
    name = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    if profiles.get("profiles", {}).get(name, {}).get(VARIABLE) == url:
        origin = f'the profile "{name}" in {profiles_file()}'
        return Address(url, origin, "`prefect profile use ephemeral`")
    origin = "Prefect's settings of this folder (prefect.toml, pyproject.toml or .env)"
    return Address(url, origin, f"take {VARIABLE} out of them")


def check_address(address: Address) -> None:
    """Ask the server whether it is there, once.

    Raises:
        SettingsError: It isn't.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    once = {PREFECT_API_URL: address.url, PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(once):
        client = get_client(httpx_settings={"timeout": _PATIENCE_S}, sync_client=True)
        error = client.api_healthcheck()
    if error is None:
        return
    what = f"no answer ({type(error).__name__})"
    if isinstance(error, httpx.HTTPStatusError):
        # A refusal is an answer: whoever has the key gets further than this.
        if error.response.status_code < 500:
            return
        what = f"it answers {error.response.status_code}"
    raise SettingsError(
        f"Prefect's server at {address.url}, set by {address.origin}, isn't there: {what}.",
        remedy=address.remedy,
    )


def check_logging() -> None:
    """Try the logging settings of the user's, where there are any.

    Raises:
        SettingsError: They can't be used.
    """
    from prefect.settings import PREFECT_LOGGING_SETTINGS_PATH

    path = PREFECT_LOGGING_SETTINGS_PATH.value()
    if not path.exists():
        return
    try:
        from prefect.logging.configuration import load_logging_config

        # Prefect itself passes over what `logging` refuses, and is loud from then on.
        dictConfig(load_logging_config(path))
    except Exception as error:
        cause = f"Prefect's logging settings in {path} can't be used: {_in_a_line(error)}"
        raise SettingsError(cause, remedy="Correct the file, or move it away.") from error


def _is_configured() -> bool:
    """Whether anything can have set an address; to ask Prefect itself takes a second."""
    names = {name for name in os.environ if name.upper().startswith("PREFECT_")} - set(QUIET)
    files = ("prefect.toml", "pyproject.toml", ".env")
    return bool(names) or any(Path(name).exists() for name in files)


def profiles_file() -> Path:
    """Return the file of Prefect's profiles, which may not be there."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    return Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")


def _read_profiles() -> dict[str, Any]:
    # Before Prefect, which says it in warnings and a traceback, without the file's name.
    path = profiles_file()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        cause = f"Prefect's profiles in {path} can't be read: {_in_a_line(error)}"
        raise SettingsError(cause, remedy="Correct the file, or move it away.") from error


@contextmanager
def _settings_named() -> Iterator[None]:
    """What Prefect raises on its import for settings that it can't use, in our words."""
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        what = _in_a_line(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            what = f"{error.title}, {field}: {first['msg']}, not {first['input']!r}."
        raise SettingsError(
            f"Prefect's settings can't be used: {what}",
            remedy=f"Look at the PREFECT_ variables and at {profiles_file()}.",
        ) from error


def _in_a_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."

"""The hub that demucs publishes on: its cache on this machine, and fetching from it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tasks.errors import ContractBroken, DiskFull, NetworkFault, SettingsError, from_os_error
from tasks.separation.models.registry import KNOWN_MODELS, unknown
from tasks.separation.models.spec import read_bag

CONNECT_TIMEOUT_S = 4.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HubUnreachable(NetworkFault):
    """No answer from the hub within a few seconds."""


def is_offline() -> bool:
    """Whether the environment forbids the hub (`HF_HUB_OFFLINE`)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def cached_file(repo: str, name: str) -> Path | None:
    """A file of the hub's cache on this machine; no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    return Path(found) if isinstance(found, str) else None


def promised_digest(path: Path) -> str:
    """The SHA-256 that the hub gave for a file of its cache (it is the blob's name), or ""."""
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) else ""


def fetch(name: str, *, on_file: Callable[[str], None] | None = None) -> tuple[Path, ...]:
    """Fetch a released model into the hub's cache; resumes, checks sizes and hashes.

    Args:
        name: A released model.
        on_file: Told each file's name before it is fetched.

    Raises:
        UnknownModel: Not a released model.
        SettingsError: The environment says offline.
        HubUnreachable: No answer within seconds (rather than half a minute of retries).
        NetworkFault: The transfer broke off; asking again resumes it.
        ContractBroken: The hub hasn't the file.
    """
    known = KNOWN_MODELS.get(name)
    if known is None:
        raise unknown(name)
    if known.embedded:
        return ()
    if is_offline():
        raise SettingsError(f"{name} can't be fetched: HF_HUB_OFFLINE is set.")
    # Read by the library when it is first imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    listing = f"{name}.yaml"
    _probe(known.hub_repo, listing)
    bag_file = _download(known.hub_repo, listing, on_file)
    signatures = dict.fromkeys(read_bag(bag_file).models)
    weights = [_download(known.hub_repo, f"{sig}.safetensors", on_file) for sig in signatures]
    return (bag_file, *weights)


def _probe(repo: str, name: str) -> None:
    # The hub's own client retries an unreachable host for over 20 s before it says so.
    import httpx
    from huggingface_hub import hf_hub_url

    try:
        httpx.head(hf_hub_url(repo, name), timeout=CONNECT_TIMEOUT_S, follow_redirects=False)
    except httpx.HTTPError as error:
        raise HubUnreachable(
            f"the hub can't be reached: {error or type(error).__name__}"
        ) from error


def _download(repo: str, name: str, on_file: Callable[[str], None] | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    if on_file:
        on_file(name)
    try:
        return Path(hf_hub_download(repo, name, etag_timeout=CONNECT_TIMEOUT_S))
    except LocalEntryNotFoundError as error:
        raise HubUnreachable("the hub stopped answering") from error
    except EntryNotFoundError as error:
        raise ContractBroken(f"the hub's {repo} has no file {name}.") from error
    except HfHubHTTPError as error:
        raise NetworkFault(f"the hub refused {repo}/{name}: {str(error)[:200]}") from error
    except OSError as error:
        ours = from_os_error(error)
        raise (
            ours
            if isinstance(ours, DiskFull)
            else NetworkFault(f"fetching {repo}/{name} broke off: {str(error)[:200]}")
        ) from error
    except Exception as error:
        # Its transports (httpx2, xet) raise families of their own, which come and go by version.
        raise NetworkFault(
            f"fetching {repo}/{name} broke off: {type(error).__name__}: {str(error)[:200]}"
        ) from error

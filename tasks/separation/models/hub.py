"""The hub that demucs publishes on: its cache on this machine, and fetching from it."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from tasks.errors import (
    NetworkError,
    ProtocolError,
    SettingsError,
    WeightsRefused,
    from_os_error,
)
from tasks.separation.models.family import OnProgress
from tasks.separation.models.transfer import (
    CONNECT_TIMEOUT_S,
    Remote,
    download,
    is_git_sha1,
    is_sha256,
    matches,
)

MAIN = "main"
_LOG_EVERY_S = 10.0
log = logging.getLogger(__name__)


class HubUnreachable(NetworkError):
    """No answer from the hub within a few seconds."""


def is_offline() -> bool:
    """Whether the environment forbids the hub (`HF_HUB_OFFLINE`)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def cached_file(repo: str, name: str, revision: str = MAIN) -> Path | None:
    """A file of the hub's cache on this machine; no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def promised_digest(path: Path) -> str:
    """The SHA-256 that the hub gave for a file of its cache (it is the blob's name), or ""."""
    name = path.resolve().name
    return name if is_sha256(name) else ""


def fetch_file(
    repo: str, name: str, on_progress: OnProgress, *, revision: str = MAIN, sha256: str = ""
) -> Path:
    """Fetch one file of a repository into the hub's cache, unless it is there already.

    Args:
        repo: `OWNER/NAME`.
        name: The file's name in it.
        on_progress: OnProgress of every piece that arrives.
        revision: A branch, or a commit.
        sha256: What the file must be, where somebody else than the hub says so.

    Raises:
        As `fetch`.
    """
    if is_offline():
        raise SettingsError(f"{name} can't be fetched: HF_HUB_OFFLINE is set.")
    # Read by the library when it is first imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    remote = _described(repo, name, revision)
    if sha256 and remote.etag != sha256:
        raise WeightsRefused(
            f"the hub's {repo}/{name} has the SHA-256 {remote.etag[:12]}…, and should have "
            f"{sha256[:12]}…."
        )
    try:
        # Its own client throws away what a broken transfer brought, and checks no digest.
        download(remote, _blob(repo, remote.etag), on_progress, _headers())
        path = _placed(repo, name, revision)
        if not matches(remote.etag, path):
            raise WeightsRefused(
                f"{path} isn't what the hub's digest {remote.etag[:12]}… is of.",
                remedy="Delete it and fetch it again.",
            )
    except OSError as error:
        raise from_os_error(error) from error
    return path


class LoggedProgress:
    """Tells the log of a fetch: at its start, then every ten seconds."""

    def __init__(self) -> None:
        self._name = ""
        self._said = 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if name == self._name and now - self._said < _LOG_EVERY_S:
            return
        self._name, self._said = name, now
        of = f" of {total / 1e6:.1f}" if total else ""
        log.info("fetching %s: %.1f%s MB", name, done / 1e6, of)


def _described(repo: str, name: str, revision: str) -> Remote:
    """What the hub says of a file. Large ones are elsewhere; the redirect has their digest."""
    import httpx
    from huggingface_hub import constants as hf
    from huggingface_hub import hf_hub_url

    url = asked = hf_hub_url(repo, name, revision=revision)
    try:
        for _ in range(5):
            # Compressed, a file would have another length.
            headers = _headers() | {"Accept-Encoding": "identity"}
            answer = httpx.head(asked, headers=headers, timeout=CONNECT_TIMEOUT_S)
            onward = urljoin(asked, answer.headers.get("location", asked))
            linked = answer.headers.get(hf.HUGGINGFACE_HEADER_X_LINKED_ETAG)
            if linked or not answer.is_redirect or not _same_host(onward, asked):
                break
            asked = onward  # a repository that was renamed
    except httpx.HTTPError as error:
        raise HubUnreachable(
            f"the hub can't be reached: {error or type(error).__name__}"
        ) from error
    if answer.status_code == 404:
        raise ProtocolError(f"the hub's {repo} has no file {name}.")
    if answer.status_code >= 400:
        raise NetworkError(f"the hub refused {repo}/{name}: HTTP {answer.status_code}.")
    etag = (linked or answer.headers.get("etag", "")).removeprefix("W/").strip('"')
    # It becomes a file's name, and what the bytes are held against.
    if not (is_sha256(etag) or (is_git_sha1(etag) and not name.endswith(".safetensors"))):
        raise ProtocolError(f"the hub gives no digest of {repo}/{name} that can be checked.")
    size = answer.headers.get(hf.HUGGINGFACE_HEADER_X_LINKED_SIZE)
    if size is None and not answer.is_redirect:
        size = answer.headers.get("content-length")
    return Remote(url, name, etag, int(size) if size and size.isdigit() else 0)


def _same_host(one: str, other: str) -> bool:
    return urlsplit(one).netloc == urlsplit(other).netloc


def _headers() -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    return build_hf_headers()


def _blob(repo: str, etag: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=repo, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / folder / "blobs" / etag


def _placed(repo: str, name: str, revision: str) -> Path:
    """The blob under its name in the cache, the way that the hub's own client leaves it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, name, revision=revision, etag_timeout=CONNECT_TIMEOUT_S))
    except LocalEntryNotFoundError as error:
        raise HubUnreachable("the hub stopped answering") from error
    except HfHubHTTPError as error:
        raise NetworkError(f"the hub refused {repo}/{name}: {str(error)[:200]}") from error
    except OSError:
        raise
    except Exception as error:
        # Its transports (httpx2, xet) raise families of their own, which come and go by version.
        raise NetworkError(
            f"fetching {repo}/{name} broke off: {type(error).__name__}: {str(error)[:200]}"
        ) from error

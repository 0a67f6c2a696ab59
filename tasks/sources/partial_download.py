"""Unfinished downloads: `source.part`, and beside it what must still hold for it to be resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from tasks.contracts import IngestPolicy, Tags
from tasks.errors import EmptyAudio, NetworkError, TransientError, from_os_error
from tasks.sources.kinds import Fetched
from tasks.sources.limits import Deadline, check_size, resuming

_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Version:
    """Which bytes these are: where from, how many if known, the server's mark and name for them."""

    url: str
    total: int | None = None
    etag: str = ""
    modified: str = ""
    name: str = ""

    @property
    def fingerprint(self) -> str:
        if self.etag:
            return self.etag
        return f"{self.total}-{self.modified}" if self.modified else ""

    def continues(self, other: Version) -> bool:
        """Tell whether bytes of `other` may be followed by bytes of this one."""
        totals = (self.total, other.total)
        if self.url != other.url or (None not in totals and self.total != other.total):
            return False
        if self.etag and other.etag:
            return self.etag == other.etag
        if self.modified and other.modified:
            return self.modified == other.modified
        return None not in totals


class Part:
    """A download under way in a scratch folder; fixed names, never the track's title."""

    def __init__(self, scratch: Path, url: str) -> None:
        self.path = scratch / "source.part"
        self._note = scratch / "source.part.json"
        self._final = scratch / f"source{_suffix(url)}"
        self.url = url

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> Version | None:
        """What the part is of, if it is of this URL and worth resuming."""
        try:
            version = Version(**json.loads(self._note.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == self.url and self.size else None

    def begin(self, version: Version) -> None:
        """Start over, with bytes of this version."""
        self.path.write_bytes(b"")
        self._note.write_text(json.dumps(asdict(version)))

    def open(self) -> IO[bytes]:
        """Open it to append to it."""
        return self.path.open("ab")

    def append(self, chunks: Iterable[bytes], policy: IngestPolicy, deadline: Deadline) -> None:
        """Write more of it, within the policy's size and time.

        Raises:
            SourceRefused: It is over the size; checked before the disk has the bytes.
            NetworkError: The time is over.
            OSError: The disk.
        """
        with self.open() as file:
            for chunk in chunks:
                check_size(file.tell() + len(chunk), policy)
                file.write(chunk)
                deadline.check()

    def finish(self) -> Path:
        """Give the whole file its final name."""
        self._note.unlink(missing_ok=True)
        return self.path.rename(self._final)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def fetch_into(part: Part, attempt: Callable[[Deadline], Version], policy: IngestPolicy) -> Fetched:
    """Download until a part is whole; what can be resumed stays after a fault that can pass.

    Args:
        part: What to fill.
        attempt: Goes on with the part, and returns what the bytes are of.
        policy: Bounds the retries and the time.
    """

    def once(deadline: Deadline) -> Version:
        deadline.check()
        version = attempt(deadline)
        if version.total is not None and part.size != version.total:
            raise NetworkError(f"only {part.size:,} of {version.total:,} bytes arrived.")
        return version

    try:
        version = resuming(once, policy)
        if not part.size:
            raise EmptyAudio("the server sent no bytes.", remedy="Check the URL.")
        return Fetched(part.finish(), version.fingerprint, Tags(title=version.name))
    except TransientError:
        if not part.size:
            part.discard()
        raise
    except OSError as error:
        part.discard()
        raise from_os_error(error) from error
    except Exception:
        part.discard()
        raise


def _suffix(url: str) -> str:
    suffix = Path(unquote(urlsplit(url).path)).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ""

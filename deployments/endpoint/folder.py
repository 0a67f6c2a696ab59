"""The data folder: the table of jobs, a folder for each, and uploads that aren't whole yet."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Set as AbstractSet
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import SettingsError


class DataFolder:
    """A folder that one endpoint owns for as long as it runs.

    Raises:
        SettingsError: Another endpoint has it, or it can't be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Uploads and the hashes of keys are nobody else's to read.
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self._jobs, self._uploads):
                folder.mkdir(exist_ok=True)
            # Closed by another thread than the one that opens it; a process that dies lets go.
            self._lock = FileLock(path / "lock", timeout=0, thread_local=False)
            self._lock.acquire()
        except Timeout:
            raise SettingsError(
                f"another endpoint uses the data folder {path}.",
                remedy="Stop it, or name another folder with --data.",
            ) from None
        except OSError as error:
            raise SettingsError(
                f"the data folder {path} can't be used: {(error.strerror or str(error)).lower()}.",
                remedy="Name another one with --data.",
            ) from error

    @property
    def database(self) -> Path:
        return self.path / "jobs.sqlite3"

    @property
    def _jobs(self) -> Path:
        return self.path / "jobs"

    @property
    def _uploads(self) -> Path:
        return self.path / "uploads"

    def close(self) -> None:
        self._lock.release()

    def new_upload(self) -> Path:
        """A name for an upload that is yet to come."""
        return self._uploads / uuid.uuid4().hex

    def upload(self, job_id: str) -> Path:
        """Where a job's audio lies until it is separated."""
        return self._jobs / job_id / "upload"

    def work(self, job_id: str) -> Path:
        """Scratch of the job in hand."""
        return self._jobs / job_id / "work"

    def stems(self, job_id: str) -> Path:
        return self._jobs / job_id / "stems"

    def keep_upload(self, arrived: Path, job_id: str) -> None:
        """Make a whole upload the job's, so that it survives a power cut.

        Raises:
            OSError: The disk doesn't take it.
        """
        kept = self.upload(job_id)
        kept.parent.mkdir(parents=True, exist_ok=True)
        arrived.replace(kept)
        _sync(kept)
        _sync(kept.parent)

    def keep_stems(self, job_id: str, made: Path) -> None:
        """Make a folder of whole stems the job's; its audio and scratch aren't needed any more."""
        kept = self.stems(job_id)
        shutil.rmtree(kept, ignore_errors=True)
        for stem in made.iterdir():
            _sync(stem)
        made.replace(kept)
        _sync(kept.parent)

    def drop_audio(self, job_id: str) -> None:
        shutil.rmtree(self.work(job_id), ignore_errors=True)
        self.upload(job_id).unlink(missing_ok=True)

    def drop(self, job_id: str) -> None:
        shutil.rmtree(self._jobs / job_id, ignore_errors=True)

    def tidy(self, known: AbstractSet[str]) -> None:
        """Remove what a process that died left: half uploads, and folders of no job."""
        for part in self._uploads.iterdir():
            part.unlink(missing_ok=True)
        for folder in self._jobs.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

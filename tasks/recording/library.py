"""A library of separations: what `INTERFACES.md` calls LIBRARY."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts import Failure, SourceAudio, TrackReport
from tasks.errors import ProtocolError, SettingsError, StemwrightError, TransientError
from tasks.paths import is_text, shown
from tasks.recording import disk, scratch, sidecar
from tasks.recording.change import Change
from tasks.recording.layout import REPORT, TRACKS, Key, document_of, place_of, slug
from tasks.recording.local_store import LOCK_TIMEOUT_S, OWN, LocalStore
from tasks.recording.object_store import ObjectStore, demand_driver
from tasks.recording.recorder import Recorder, Unreadable
from tasks.recording.rows import Alias
from tasks.recording.storage import Storage
from tasks.recording.storage_errors import STAGE, damaged, translated

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording.index import LibraryIndex
    from tasks.recording.pruning import Superseded
    from tasks.recording.tables import Table
    from tasks.recording.verify import Checked, Finding, Share

log = logging.getLogger(__name__)

# Some milliseconds each afar, a third of one here.
_LOOKED_AT, _LOOKED_AT_AFAR = 5_000, 100


class Library:
    """A library in a local folder or in an object store (any fsspec URL).

    Costs nothing to make, pickles as its URL, and may be shared by threads. Every method raises
    `StemwrightError`s of the stage "record": `DiskFull`, `SettingsError` (it can't be written),
    `ProtocolError` (something in it is damaged), `NetworkError` (an object store's trouble).

    Args:
        url: A path, or a URL such as `s3://bucket/library`.

    Raises:
        SettingsError: No such kind of store, or its driver isn't installed.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = _resolved(url)
        self.is_local = "://" not in self.url
        self._store: Storage = (
            LocalStore(Path(self.url)) if self.is_local else ObjectStore(self.url)
        )
        self._recorder = Recorder(self._store)

    def __reduce__(self) -> tuple[type[Library], tuple[str]]:
        return Library, (self.url,)

    def __repr__(self) -> str:
        return f"Library({self.url!r})"

    # --- separations --------------------------------------------------------------------------

    def is_finished(self, track_id: str, separation_id: str) -> bool:
        """Return whether this separation is in the library, whole.

        Whole: its report.json is there, and so is each file that it names, of the size noted.
        """
        return self.lost(track_id, separation_id) == ()

    def lost(self, track_id: str, separation_id: str) -> tuple[str, ...] | None:
        """Return the files that a separation with a report.json lacks; None if it has no report.

        Costs one small read and one listing of the folder. A copy that was interrupted and a file
        deleted by hand leave such; `commit` takes the place of what has lost something.
        """
        place = place_of(track_id, separation_id)
        with self._translated():
            missing = self._lost(place)
            if missing is None and self._store.is_replaced(place):
                # Between the two renames of a replacement; or it died there, and we put it right.
                with self._exclusive():
                    return self._lost(place)
            return missing

    def _lost(self, place: str) -> tuple[str, ...] | None:
        try:
            data = self._sidecar(place)
        except PermissionError:
            # Another user's: there, and nobody here can tell more. Nor can it be seen: that raises.
            return () if self._store.exists(f"{place}/{REPORT}") else None
        while data is not None:
            missing = sidecar.lost(data, self._store.sizes(place))
            if not missing or (now := self._sidecar(place)) == data:
                return missing
            data = now  # it was replaced between the two looks
        return None

    def _sidecar(self, place: str) -> bytes | None:
        try:
            return self._store.read(f"{place}/{REPORT}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def report(self, track_id: str, separation_id: str) -> TrackReport:
        """Return the report of a finished separation.

        Raises:
            ProtocolError: It isn't finished, or its report.json is damaged.
        """
        place = place_of(track_id, separation_id)
        with self._translated():
            try:
                data = self._store.read(f"{place}/{REPORT}")
            except FileNotFoundError:
                raise damaged(f"{self.folder(track_id, separation_id)} isn't finished.") from None
            return sidecar.parse(data, (track_id, separation_id))

    def folder(self, track_id: str, separation_id: str) -> str:
        """Return the path or URL of a separation's folder, finished or not."""
        return self._store.address(place_of(track_id, separation_id))

    def local_file(self, track_id: str, separation_id: str, name: str, scratch: Path) -> Path:
        """Return a file of a separation on this disk: itself or, from an object store, a copy of
        it in `scratch`.

        Raises:
            ProtocolError: The file isn't there.
        """
        place = f"{place_of(track_id, separation_id)}/{name}"
        if self.is_local:
            path = Path(self._store.address(place))
            if not path.is_file():
                raise damaged(f"{path} is gone.")
            return path
        copy = scratch / name
        with self._translated():
            try:
                if not copy.exists():
                    copy.write_bytes(self._store.read(place))
            except FileNotFoundError:
                raise damaged(f"{self._store.address(place)} is gone.") from None
        return copy

    @contextmanager
    def workspace(self, run_id: str) -> Iterator[Path]:
        """Make a scratch folder for one run, from which `commit` takes finished separations.

        It lies in the library's own file system, or for an object store in this machine's
        temporary folder. It is gone at the end however that comes: what a killed run left is
        cleared away by the next one here.
        """
        with ExitStack() as stack:
            with self._translated():
                root = self._store.scratch
                scratch.sweep(root, keep=OWN)
                self.recover()
                held = scratch.held(root, f"{slug(run_id)}-{uuid.uuid4().hex[:8]}")
                folder = stack.enter_context(held)
            yield folder

    def commit(self, folder: Path, report: TrackReport, *, replace: bool = False) -> TrackReport:
        """Put a separation into the library, whole or not at all.

        On a local file system a crash at any point leaves what was there before or the new one,
        complete. After an error the same call may be made again. The rows of a separation that
        was replaced are brought up to date; those of a new one are for `write_rows`.

        Args:
            folder: In the workspace: the mixture's and the stems' files. It is used up.
            report: Names those files; its paths count by their last part only.
            replace: Take the place of a separation that is finished already.

        Returns:
            The report as recorded: ours, or that of another worker who was first.

        Raises:
            DiskFull, SettingsError, NetworkError: The library's storage.
            ProtocolError: A file that the report names isn't there.
        """
        place = place_of(report.track_id, report.separation_id)
        with self._translated(report.label):
            ours = sidecar.relative(report)
            finished = self._lost(place) == ()
            if finished and not (replace and folder.is_dir()):
                return self._winner(folder, report)
            sidecar.seal(folder, ours)
            if not finished and self._store.commit(folder, place):
                disk.clear(folder)
                return ours
            return self._commit_over(folder, ours, place, replace)

    def _commit_over(
        self, folder: Path, ours: TrackReport, place: str, replace: bool
    ) -> TrackReport:
        won = False
        with self._exclusive():
            missing = self._lost(place)
            if replace or missing != ():
                won = self._store.replace(folder, place)
                if missing is not None:
                    self._recorder.refresh([place])
                    self._store.forget(place)
        if not won:
            return self._winner(folder, ours)
        disk.clear(folder)
        return ours

    def _winner(self, folder: Path, report: TrackReport) -> TrackReport:
        winner = self.report(report.track_id, report.separation_id)
        disk.clear(folder)
        return winner

    def credit(self, track_id: str, separation_id: str, audio: SourceAudio) -> TrackReport:
        """Let a finished separation be that of another source with the same audio.

        Its report and its rows have that source's words from then on; stems and scores stay.

        Returns:
            The report as it was.

        Raises:
            ProtocolError: It isn't finished, or its report.json is damaged.
        """
        with self._exclusive():
            former = self.report(track_id, separation_id)
            now = sidecar.dump(sidecar.relative(former.credited_to(audio)))
            self._carry_out(Change(reports={place_of(track_id, separation_id): now.decode()}))
            return former

    def forget(self, track_ids: Collection[str], sources: Collection[str] = ()) -> None:
        """Remove tracks: every separation, their rows, their aliases, and their failures.

        Killed at any step, the next use of the library goes on with it (an object store's is
        finished by the same call again).

        Args:
            track_ids: The tracks.
            sources: Further sources of which the failures go.
        """
        with self._exclusive():
            tracks, aliases = (
                frame[frame["track_id"].isin(set(track_ids))]
                for frame in (self.tracks(), self.aliases())
            )
            # What has a folder, finished or not, and what has only a row.
            removed = {
                (track_id, name)
                for track_id in track_ids
                for name in self._store.names(f"{TRACKS}/{track_id}")
            }
            removed.update(zip(tracks["track_id"], tracks["separation_id"], strict=True))
            gone = {*tracks["source"], *aliases["source"], *sources}
            self._carry_out(Change(removed=tuple(sorted(removed)), sources=tuple(sorted(gone))))

    def remove(self, superseded: Iterable[Superseded]) -> None:
        """Remove separations in whose place another one of the same track is; nothing said of the
        track is lost. It is as safe as `forget`."""
        with self._exclusive():
            gone = [one for one in superseded if self.is_finished(*one.by.key)]
            aliases = tuple(
                Alias.of(one.row, one.row.run_id or "").model_copy(
                    update={"separation_id": one.by.separation_id}
                )
                for one in gone
                if Alias.of(one.row).facts != Alias.of(one.by).facts
            )
            removed = tuple(one.row.key for one in gone)
            self._carry_out(Change(removed=removed, aliases=aliases))

    def size(self, track_id: str, separation_id: str) -> int:
        """Return the bytes of a separation's folder."""
        with self._translated():
            return sum(self._store.sizes(place_of(track_id, separation_id)).values())

    def left_scratch(self) -> dict[str, int]:
        """Return the scratch folders that dead runs left on this machine, with their bytes."""
        with self._translated():
            return scratch.left(self._store.scratch, keep=OWN)

    def sweep(self) -> None:
        """Clear away what dead runs left; every run does so when it begins."""
        with self._translated():
            scratch.sweep(self._store.scratch, keep=OWN)
        self.recover()

    # --- tables -------------------------------------------------------------------------------

    def write_rows(self, reports: Sequence[TrackReport]) -> None:
        """Record committed separations in `reports/tracks` and `reports/stems`, both or neither.

        One file a table and call, so call it for batches. A separation that has a row already
        keeps exactly one: it is replaced if the folder's report.json says otherwise.
        """
        if reports:
            with self._exclusive():
                self._recorder.record(reports, reports[0].run.run_id)

    def ensure_rows(self, keys: Iterable[Key]) -> int:
        """Write the rows that finished separations lack; return how many they were.

        `keys` are (track_id, separation_id). A process that died between `commit` and
        `write_rows` leaves such.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return 0
        with self._exclusive():
            return self._recorder.ensure(wanted)

    def record_failures(self, failures: Sequence[Failure]) -> None:
        """Add failed attempts to `reports/failures`."""
        if failures:
            with self._exclusive():
                self._recorder.append("failures", failures, failures[0].run_id)

    def record_aliases(self, aliases: Sequence[Alias]) -> None:
        """Remember sources that hold the audio of a known track, so that none is read again.

        What was said of a source already isn't said twice.
        """
        if aliases:
            with self._exclusive():
                self._recorder.add_aliases(aliases)

    def rebuild(self, on_unreadable: Unreadable | None = None) -> int:
        """Make `reports/tracks` and `reports/stems` anew from every report.json.

        Also makes few large files of many small ones. Returns the number of separations.
        `on_unreadable` is told of each folder whose report.json can't be read, and why; by
        default that is logged. Other writers wait meanwhile.
        """
        with self._exclusive():
            return self._recorder.rebuild(on_unreadable or _warn)

    def verify(self, share: Share | None = None) -> Iterator[Finding | Checked]:
        """Look into every file, row and folder; see `tasks.recording.verify`."""
        from tasks.recording.verify import Share, verify

        rows = self.tracks()
        with self._translated():
            yield from verify(self._store, rows, share or Share())

    def discard(self, track_id: str, separation_id: str, name: str) -> None:
        """Remove a damaged file of a separation, so that the separation counts as unfinished."""
        with self._translated():
            self._store.discard(f"{place_of(track_id, separation_id)}/{name}")

    def recover(self) -> None:
        """Finish, or undo, what a process that died while writing left half-done.

        `workspace` does it first, and so does every reading of the tables. Nothing is done, and
        nothing waits, while a process that lives is writing.
        """
        if self._store.unsettled():
            with suppress(TransientError), self._exclusive(timeout_s=0.0):
                pass

    # --- documents ----------------------------------------------------------------------------

    def document(self, name: str) -> bytes | None:
        """Return what `write_document` last wrote under this name; None if nothing."""
        place = document_of(name)
        with self._translated():
            try:
                return self._store.read(place)
            except FileNotFoundError:
                return None

    def write_document(self, name: str, data: bytes) -> None:
        """Keep something beside the tables, `reports/NAME`, whole, over what was there."""
        place = document_of(name)
        with self._exclusive():
            self._store.write(place, data)

    # --- reading ------------------------------------------------------------------------------

    def index(self, separation_ids: Collection[str] | None = None) -> LibraryIndex:
        """Return what a run needs to resume; of finished separations only those with these ids."""
        from tasks.recording.index import load

        with self._translated():
            self._settled()
            return load(self._store, separation_ids)

    def knows(self, sources: Iterable[str]) -> bool:
        """Tell whether the tables have a row of each of these sources, of whatever kind."""
        from tasks.recording.tables import read

        unknown = set(sources)
        tables: tuple[Table, ...] = ("tracks", "aliases", "failures")
        with self._translated():
            for table in tables:
                if unknown:
                    unknown.difference_update(
                        read(self._store, table, ["source"]).column(0).to_pylist()
                    )
        return not unknown

    def tracks(self) -> pd.DataFrame:
        """Return the newest report of each track and separation, oldest first."""
        return self._frame("tracks", ["track_id", "separation_id"])

    def newest(self, verdict: str | None = None) -> pd.DataFrame:
        """Return the newest report of each track, those with this verdict, worst first."""
        frame = self.tracks().drop_duplicates("track_id", keep="last")
        if verdict is not None:
            frame = frame[frame["verdict"] == verdict]
        return frame.sort_values("score", kind="stable", na_position="last")

    def lost_of(self, frame: pd.DataFrame) -> dict[Key, tuple[str, ...]]:
        """Return which files separations of these rows have lost since they were finished.

        Of a large table only as many are looked at as take a moment.
        """
        keys: list[Key] = list(zip(frame["track_id"], frame["separation_id"], strict=True))
        looked = keys[: _LOOKED_AT if self.is_local else _LOOKED_AT_AFAR]
        found = {key: self.lost(*key) for key in looked}
        return {
            key: (REPORT,) if lost is None else lost for key, lost in found.items() if lost != ()
        }

    def stems(self) -> pd.DataFrame:
        """Return the stems of `tracks()`."""
        return self._frame("stems", ["track_id", "separation_id", "stem"])

    def aliases(self) -> pd.DataFrame:
        """Return every further source with a known track's audio, oldest first."""
        return self._frame("aliases", [])

    def stem_places(self, track_ids: Collection[str]) -> dict[Key, dict[str, str]]:
        """Return the path or URL of each stem of these tracks, by track and separation."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from tasks.recording.tables import read

        columns = ["track_id", "separation_id", "stem", "path", "created_at"]
        with self._translated():
            table = read(self._store, "stems", columns)
        wanted = table.filter(pc.field("track_id").isin(pa.array(track_ids, pa.string())))
        places: dict[Key, dict[str, str]] = {}
        for row in wanted.sort_by("created_at").to_pylist():
            stems = places.setdefault((row["track_id"], row["separation_id"]), {})
            stems[row["stem"]] = self._store.address(row["path"])
        return places

    def failures(self) -> pd.DataFrame:
        """Return every failed attempt, oldest first."""
        return self._frame("failures", [])

    def _frame(self, table: Table, key: list[str]) -> pd.DataFrame:
        from tasks.recording.tables import read

        with self._translated():
            self._settled()
            frame: pd.DataFrame = read(self._store, table).to_pandas()
        frame = frame.sort_values("created_at", kind="stable")
        if key:
            frame = frame.drop_duplicates(key, keep="last")
        return frame.reset_index(drop=True)

    # --- inside -------------------------------------------------------------------------------

    def _translated(self, label: str = "") -> AbstractContextManager[None]:
        return translated(label, remote=self._store.remote)

    @contextmanager
    def _exclusive(self, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        with self._translated(), self._store.lock(timeout_s):
            for place in self._store.settle():
                try:
                    self._recorder.refresh([place])
                except ProtocolError as error:
                    _warn(place, error)
                self._store.forget(place)
            if noted := self._store.noted_change():
                self._carry_out(Change.model_validate_json(noted))
            yield

    def _carry_out(self, change: Change) -> None:
        change.carry_out(self._store, self._recorder)

    def _settled(self) -> None:
        try:
            self.recover()
        except SettingsError:
            # A library that may only be read is read as it stands.
            log.info("%s can't be written; reading it as it is.", self.url)


def _warn(place: str, error: StemwrightError) -> None:
    log.warning("%s: %s", place, error)


def _resolved(url: str | Path) -> str:
    from fsspec.core import split_protocol

    text = str(url)
    if not text.strip():
        raise SettingsError("the library has no name.", stage=STAGE, remedy="Set --library.")
    protocol, path = split_protocol(text) if isinstance(url, str) else (None, text)
    if protocol in (None, "file", "local"):
        try:
            whole = str(Path(path).expanduser().absolute())
        except RuntimeError as error:
            raise SettingsError(f"{path}: {error}", remedy="Set --library.") from error
        if not is_text(whole):  # its tables name its files, and are text
            what = f"the library's path, {shown(whole)}, isn't UTF-8."
            raise SettingsError(what, remedy="Set --library to a folder elsewhere.")
        return whole
    demand_driver(protocol)
    return text.rstrip("/")

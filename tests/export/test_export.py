"""Stems leave a library under readable names, in any format, of exactly their length, and nothing
is overwritten."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile

from flows.cli.export import Export
from tasks.errors import ProtocolError, SettingsError, StorageError
from tasks.export import FORMATS, Exported, ExportForm, Template, export_separation
from tasks.export.naming import DEFAULT_TEMPLATE
from tasks.export.stem_mp4 import STEMS
from tasks.normalize.audio_file import AudioFile
from tasks.recording import Library, find
from tasks.recording.rows import Alias
from tests.gallery.studio import TONES_HZ, put, report_of, tone
from tests.recording.factory import RATE_HZ

SECONDS = 1.3
FRAMES = int(SECONDS * RATE_HZ)
# One pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da636460"
    "f8ff1f0003030200ef9c1e2a0000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Three songs, the first twice over: one of the others has a source with a cover."""
    folder = tmp_path_factory.mktemp("export")
    made = Library(folder / "library")
    source = folder / "covered.flac"
    soundfile.write(source, np.zeros((RATE_HZ // 10, 2)), RATE_HZ)
    tags: Any = mutagen.File(source)
    picture: Any = mutagen.flac.Picture()  # type: ignore[attr-defined]
    picture.type, picture.mime, picture.data = 3, "image/png", PNG
    tags.add_picture(picture)
    tags.save()
    put(made, report_of(1, seconds=SECONDS, title="Blue", artist="Trio", album="Night"))
    put(made, report_of(2, seconds=SECONDS, title="Blue", artist="Trio", album="Live"))
    put(made, report_of(3, seconds=SECONDS, title="", artist="", source=str(source)))
    return made


def export(
    library: Library, query: str, out: Path, template: str = DEFAULT_TEMPLATE, **form: Any
) -> list[Exported]:
    return [
        one
        for row in find(library, query).itertuples()
        for one in export_separation(
            library,
            str(row.track_id),
            str(row.separation_id),
            out,
            Template(template),
            ExportForm(**form),
        )
    ]


def names(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def decoded(path: Path, stream: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """All that FFmpeg plays of a file, (frames, 2), at its own rate."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="stereo")
        frames = [
            ready.to_ndarray().reshape(-1, 2)
            for frame in container.decode(audio=stream)
            for ready in resampler.resample(frame)
        ]
    return np.concatenate(frames)


# --- which tracks ---------------------------------------------------------------------------------


def test_a_query_is_an_id_a_source_or_words(library: Library) -> None:
    assert len(find(library)) == 3
    assert len(find(library, "trio BLUE")) == 2
    (live,) = find(library, "live")["track_id"]
    assert list(find(library, live)["track_id"]) == [live]
    assert find(library, "trio waltz").empty
    (covered,) = find(library, str(Path(library.url).parent / "covered.flac"))["track_id"]
    alias = Alias(source="/music/again.flac", track_id=covered, separation_id="", fingerprint="")
    library.record_aliases([alias])
    assert list(find(library, "/music/again.flac")["track_id"]) == [covered]


# --- the library's own files ----------------------------------------------------------------------


def test_by_default_they_are_the_librarys_own_files_by_link(
    library: Library, tmp_path: Path
) -> None:
    made = export(library, "night", tmp_path)
    assert names(tmp_path) == sorted(f"Trio - Blue/{stem}.flac" for stem in TONES_HZ)
    assert {one.how for one in made} == {"linked"}
    for one in made:
        own = Path(library.folder(one.track_id, one.separation_id), f"{one.stem}.flac")
        assert Path(one.path).samefile(own)


def test_the_same_again_makes_nothing_and_another_song_of_that_name_is_numbered(
    library: Library, tmp_path: Path
) -> None:
    first = export(library, "night", tmp_path, stems=("vocals",))
    again = export(library, "night", tmp_path, stems=("vocals",))
    assert [one.path for one in again] == [one.path for one in first]
    assert [one.how for one in again] == ["already"]
    export(library, "live", tmp_path, stems=("vocals",))
    export(library, "live", tmp_path, stems=("vocals",))
    assert names(tmp_path) == ["Trio - Blue/vocals (2).flac", "Trio - Blue/vocals.flac"]


def test_where_nothing_can_be_linked_it_is_copied_once(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert [one.how for one in export(library, "night", tmp_path, stems=("bass",))] == ["copied"]
    assert [one.how for one in export(library, "night", tmp_path, stems=("bass",))] == ["already"]
    assert names(tmp_path) == ["Trio - Blue/bass.flac"]


def test_a_strangers_file_is_never_overwritten(library: Library, tmp_path: Path) -> None:
    theirs = tmp_path / "Trio - Blue/vocals.mp3"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    for _ in range(2):
        export(library, "night", tmp_path, stems=("vocals",), format="mp3")
    assert theirs.read_text() == "mine"
    assert names(tmp_path) == ["Trio - Blue/vocals (2).mp3", "Trio - Blue/vocals.mp3"]


def test_a_link_in_the_way_leads_nowhere(library: Library, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/Trio - Blue").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="leads out of"):
        export(library, "night", tmp_path / "out")
    assert names(tmp_path / "elsewhere") == []


def test_what_the_library_has_lost_is_said(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    done = put(library, report_of(9, seconds=SECONDS))
    Path(library.folder(done.track_id, done.separation_id), "bass.flac").unlink()
    with pytest.raises(ProtocolError, match=r"bass\.flac is gone"):
        export(library, "", tmp_path / "out")


def test_of_an_object_store_they_are_copied(tmp_path: Path) -> None:
    library = Library("memory://export-test/library")
    put(library, report_of(9, seconds=SECONDS))
    (one,) = export(library, "", tmp_path, stems=("bass",))
    assert decoded(Path(one.path)).shape == (FRAMES, 2)


# --- encoded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_exactly_the_stems_length_and_its_tags(
    library: Library, tmp_path: Path, form: str
) -> None:
    (one,) = export(library, "night", tmp_path, stems=("vocals",), format=form)
    path = Path(one.path)
    assert path.suffix == f".{form}"
    heard = decoded(path)
    rate = 48_000 if form == "opus" else RATE_HZ
    frames = round(FRAMES * rate / RATE_HZ)
    if form == "m4a":
        # Its header says where the last packet ends; FFmpeg plays that packet to its own end.
        with av.open(str(path)) as container:
            assert container.streams.audio[0].duration == frames
        heard = heard[:frames]
    assert len(heard) == frames
    # What was in the stem is at the same place in the file: the tone correlates with itself.
    t = np.arange(len(heard)) / rate
    wanted = np.sin(2 * np.pi * TONES_HZ["vocals"] * t) * (0.6 + 0.4 * np.sin(2 * np.pi * t))
    assert np.corrcoef(heard[:, 0], wanted)[0, 1] > 0.999
    tags: Any = mutagen.File(path, easy=form in ("mp3", "m4a"))
    if form != "wav":
        assert tags["title"] == ["Blue (vocals)"]
        assert tags["artist"] == ["Trio"]
        assert tags["album"] == ["Night"]
    else:
        assert str(tags["TIT2"]) == "Blue (vocals)"
    assert [
        one.how for one in export(library, "night", tmp_path, stems=("vocals",), format=form)
    ] == ["already"]


@pytest.mark.parametrize(("form", "depth"), [("flac", "16"), ("flac", "24"), ("wav", "32f")])
def test_lossless_is_lossless_to_the_last_bit_of_its_depth(
    library: Library, tmp_path: Path, form: str, depth: str
) -> None:
    (one,) = export(library, "night", tmp_path, stems=("bass",), format=form, bit_depth=depth)
    own = Path(library.folder(one.track_id, one.separation_id), "bass.flac")
    wanted = soundfile.read(own, dtype="float64")[0]
    heard, info = soundfile.read(one.path, dtype="float64")[0], soundfile.info(one.path)
    assert info.subtype == {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}[depth]
    assert np.abs(heard - wanted).max() <= (2.0**-16 if depth == "16" else 0.0)


@pytest.mark.parametrize("form", ["flac", "mp3", "m4a", "opus"])
def test_the_sources_cover_is_kept(library: Library, tmp_path: Path, form: str) -> None:
    source = str(Path(library.url).parent / "covered.flac")
    (one,) = export(library, source, tmp_path, stems=("bass",), format=form)
    assert Path(one.path).parent.name == "covered"
    with av.open(one.path) as container:
        (picture,) = container.streams.video
        assert bytes(next(container.demux(picture))) == PNG


def test_a_mix_is_the_sum_of_its_stems(library: Library, tmp_path: Path) -> None:
    (one,) = export(
        library, "night", tmp_path, mix=("drums", "bass"), format="wav", bit_depth="32f"
    )
    assert Path(one.path).name == "drums+bass.wav"
    wanted = tone(TONES_HZ["drums"], SECONDS) + tone(TONES_HZ["bass"], SECONDS)
    assert np.abs(soundfile.read(one.path)[0] - wanted).max() < 1e-6


def test_two_stems_are_one_and_the_mixture_minus_it(library: Library, tmp_path: Path) -> None:
    one, rest = export(library, "night", tmp_path, two_stems="vocals")
    assert (one.how, Path(rest.path).name) == ("linked", "no_vocals.flac")
    both = soundfile.read(one.path)[0] + soundfile.read(rest.path)[0]
    assert np.abs(both - sum(tone(hz, SECONDS) for hz in TONES_HZ.values())).max() < 1e-6


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"stems": ("kazoo",)}, "no stem 'kazoo'"),
        ({"stems": ("bass",), "mix": ("bass",)}, "different exports"),
        ({"format": "flac", "bit_depth": "32f"}, "flac holds no"),
    ],
)
def test_what_cannot_be_is_said(
    library: Library, tmp_path: Path, form: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        export(library, "night", tmp_path, **form)
    assert names(tmp_path) == []


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{artist}/{title}.{ext}", "same name"),
        ("{artst} {stem}", r"no field \{artst\}.*\{artist\}"),
        ("{stem.__class__}", "no field"),
        ("{stem!r}", "no field"),
        ("{stem:>99}", "no field"),
        ("{0}{stem}", "no field"),
        ("../{stem}", "leads out"),
        ("/tmp/{stem}", "leads out"),
        ("{stem", "can't be read"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(wrong: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Template(wrong)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("AC/DC", "AC_DC"),
        ("..", "_"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("CON", "CON_"),
        ("What?", "What_"),
        ("Ends.", "Ends"),
        (".hidden", "_hidden"),
        ("a\x00b\nc", "a_b_c"),
        ("雨" * 200, "雨" * 80),
    ],
)
def test_a_name_is_one_that_every_system_takes(title: str, name: str) -> None:
    made = Template("{title}/{stem}").path({"title": title, "stem": "vocals", "ext": "flac"})
    assert made.parts == (name, "vocals.flac")


def test_what_is_not_known_has_a_name_too(library: Library, tmp_path: Path) -> None:
    source = str(Path(library.url).parent / "covered.flac")
    export(library, source, tmp_path, "{artist}/{album}/{title} [{stem}]", stems=("bass",))
    assert names(tmp_path) == ["Unknown artist/Unknown album/covered [bass].flac"]


# --- the format of DJ programs --------------------------------------------------------------------


def test_a_stem_mp4_has_the_mixture_first_and_its_four_stems(
    library: Library, tmp_path: Path
) -> None:
    wanted = Export.of(tmp_path, "", ExportForm(format="stem.mp4"))
    (row,) = find(library, "night").itertuples()
    (one,) = wanted.run(library, [(str(row.track_id), str(row.separation_id))]).made
    assert names(tmp_path) == ["Trio - Blue.stem.mp4"]
    tones = list(TONES_HZ.values())
    with av.open(one.path) as container:
        assert len(container.streams.audio) == 5
        assert all(stream.duration == FRAMES for stream in container.streams.audio)
    for index, hz in enumerate([None, *(TONES_HZ[name] for name in STEMS)]):
        heard = decoded(Path(one.path), stream=index)[:FRAMES, 0]
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
        loud = spectrum[[round(tone_hz * SECONDS) for tone_hz in tones]] > spectrum.max() / 4
        assert [tone_hz for tone_hz, is_loud in zip(tones, loud, strict=True) if is_loud] == (
            [hz] if hz else tones
        )
    described = re.search(rb"stem(\{.*\})", Path(one.path).read_bytes())
    assert described
    assert [stem["name"] for stem in json.loads(described[1])["stems"]] == [
        name.capitalize() for name in STEMS
    ]
    tags: Any = mutagen.File(one.path, easy=True)
    assert (tags["title"], tags["artist"]) == (["Blue"], ["Trio"])
    (again,) = wanted.run(library, [(str(row.track_id), str(row.separation_id))]).made
    assert again.how == "already"


def test_its_mixture_is_what_is_separated_of_it(library: Library, tmp_path: Path) -> None:
    wanted = Export.of(tmp_path, "", ExportForm(format="stem.mp4"))
    (row,) = find(library, "night").itertuples()
    (one,) = wanted.run(library, [(str(row.track_id), str(row.separation_id))]).made
    with AudioFile(Path(one.path)) as source:
        assert source.stream.index == 0

"""Our local separator, file to files: `python -m tests.benchmarks.separate_once TRACK… OUT`.

What benchmarks measure as a process of its own; `OUT` gets a folder of stems for each track.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import soundfile

from tasks.contracts import (
    BitDepth,
    LocalOptions,
    Mixture,
    SeparationSettings,
    SourceFormat,
    TrackRef,
)
from tasks.separation import LocalSeparator
from tasks.separation.models import find_model
from tasks.separation.request import SeparationRequest

_DEPTHS: dict[str, BitDepth] = {"FLOAT": "32f", "PCM_24": "24", "PCM_16": "16"}


def separate(
    tracks: list[Path],
    out: Path,
    models_dir: Path,
    settings: SeparationSettings,
    device: str,
    options: LocalOptions,
) -> None:
    """Separate each track into `OUT/TRACK/STEM.FORMAT`, with one separator for all of them."""
    spec = find_model(settings.model, models_dir=models_dir, offline=True)
    with LocalSeparator(spec, device=device, options=options) as separator:
        for track in tracks:
            separator.separate(
                SeparationRequest(mixture_of(track), out / track.stem, settings, deadline_s=1e9)
            )


def mixture_of(path: Path) -> Mixture:
    """A file that is at the models' rate already, as it is: nothing is decoded or copied."""
    info = soundfile.info(str(path))
    return Mixture(
        ref=TrackRef(source=str(path), kind="file"),
        track_id="0" * 16,
        path=path,
        sample_rate_hz=info.samplerate,
        channels=info.channels,
        frames=info.frames,
        bit_depth=_DEPTHS[info.subtype],
        peak=1.0,
        silent=False,
        source=SourceFormat(
            container=info.format.lower(),
            codec=info.subtype.lower(),
            sample_rate_hz=info.samplerate,
            channels=info.channels,
            lossy=False,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tracks", type=Path, nargs="+", metavar="TRACK")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--model", required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--stems", default="", help="joined by commas; all by default")
    parser.add_argument(
        "--bit-depth", choices=["24", "32f"], default="32f", help="of the WAV files"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--options", type=json.loads, default={}, help="LocalOptions, as JSON")
    given = parser.parse_args()
    settings = SeparationSettings(
        model=given.model,
        stems=tuple(filter(None, given.stems.split(","))),
        shifts=0,
        format="wav",
        bit_depth=given.bit_depth,
    )
    options = LocalOptions(**given.options)
    separate(given.tracks, given.out, given.models_dir, settings, given.device, options)


if __name__ == "__main__":
    main()

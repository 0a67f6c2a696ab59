"""The separators that benchmarks compare: ours, stock demucs, and its peers.

Peers get a virtual environment each under `build/benchmark/venvs`, made with pip when absent, on
the torch of this one. All of them separate with the same weights (`full_size`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.child import Measured, NotRun, last_words, measure
from tests.benchmarks.full_size import BUILD, MODELS, RATE, RELEASED, STEMS

VENVS = BUILD / "venvs"
STOCK = "stock demucs"


@dataclass(frozen=True)
class Job:
    """What is asked of each separator.

    Attributes:
        tracks: WAV or FLAC files.
        out: A folder of stems for each track will be in it.
        model: A name of `full_size`; its files are there.
        stem: The only one that is wanted; None for all.
        device: Torch's name.
        bit_depth: Of the stems' WAV files: 24, or 32 for float.
    """

    tracks: Sequence[Path]
    out: Path
    model: str
    stem: str | None = None
    device: str = "cpu"
    bit_depth: int = 32

    @property
    def wanted(self) -> tuple[str, ...]:
        return (self.stem,) if self.stem else STEMS


@dataclass(frozen=True)
class Contender:
    """A separator, and how it is asked.

    Attributes:
        name: In tables.
        command: Of a job.
        install: What pip installs into its own environment; nothing where that is this one.
        prepare: Called before it is measured, for what isn't separation.
        environment: Variables that it needs.
    """

    name: str
    command: Callable[[Job], list[str]]
    install: tuple[str, ...] = ()
    prepare: Callable[[Job], None] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def ready(self, job: Job) -> None:
        """Install and prepare it.

        Raises:
            NotRun: It can't be had on this machine.
        """
        if self.install:
            make_venv(self.name, self.install)
        if self.prepare:
            self.prepare(job)

    def run(self, job: Job) -> Measured:
        """Do a job anew.

        Raises:
            NotRun: It failed.
        """
        shutil.rmtree(job.out, ignore_errors=True)
        return measure(self.command(job), job.out.with_suffix(".log"), self.environment)


def make_venv(name: str, packages: Sequence[str]) -> None:
    """An environment for one peer, whole or not at all.

    With this environment's version of torch, so that what is compared is the separators, and
    so that no index is asked for the newest one, which would bring a gigabyte of CUDA.

    Raises:
        NotRun: pip failed.
    """
    folder = VENVS / name
    made = folder / ".made"
    if made.exists():
        return
    venv.create(folder, with_pip=True, clear=True)
    version = metadata.version("torch").split("+")[0]
    command = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    log = VENVS / f"{name}.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [folder / "bin" / "python", *command, f"torch=={version}", *packages],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise NotRun(f"pip: {last_words(log)}")
    made.touch()


def binary(name: str, program: str) -> str:
    return str(VENVS / name / "bin" / program)


def ours(
    name: str = "stemwright",
    options: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
) -> Contender:
    """Our separator with some `LocalOptions`."""

    def command(job: Job) -> list[str]:
        return [
            *(sys.executable, "-m", "tests.benchmarks.separate_once"),
            *map(str, job.tracks),
            str(job.out),
            *("--model", job.model, "--models-dir", str(MODELS)),
            *("--stems", job.stem or "", "--device", job.device),
            *("--options", json.dumps(options or {})),
            *("--bit-depth", "32f" if job.bit_depth == 32 else str(job.bit_depth)),
        ]

    return Contender(name, command, environment=environment or {})


def demucs_command(program: Sequence[str]) -> Callable[[Job], list[str]]:
    """Of the stock CLI, and of what kept its options."""

    def command(job: Job) -> list[str]:
        return [
            *program,
            *("--repo", str(MODELS), "-n", job.model, "-d", job.device, "--shifts", "0"),
            *("--float32" if job.bit_depth == 32 else "--int24", "--clip-mode", "clamp"),
            *(("--two-stems", job.stem) if job.stem else ()),
            *(
                "-o",
                str(job.out.parent),
                "--filename",
                f"../{job.out.name}/{{track}}/{{stem}}.{{ext}}",
            ),
            *map(str, job.tracks),
        ]

    return command


def stock() -> Contender:
    """The `demucs` of this environment, which is also what the others are compared with."""
    return Contender(STOCK, demucs_command([sys.executable, "-m", "demucs.separate"]))


def demucs_infer() -> Contender:
    name = "demucs-infer"
    return Contender(name, demucs_command([binary(name, name)]), install=(name, "soundfile"))


def audio_separator() -> Contender:
    """The Demucs architecture of audio-separator, with our weights.

    Its models are those of a list that it downloads unless its model folder has one; ours names
    our files, which it then finds there and loads as it does the released ones. It can't leave
    sub-models of a bag out. It runs `ffmpeg -version` before anything else, although WAV files
    through soundfile don't need it: a wheel brings one.
    """
    name = "audio-separator"
    folder = BUILD / name
    named = json.dumps({stem.capitalize(): stem for stem in STEMS})

    def prepare(job: Job) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        bag = MODELS / f"{job.model}.yaml"
        files = [MODELS / f"{sub}.th" for sub in yaml.safe_load(bag.read_text())["models"]]
        for path in (*files, bag):
            link = folder / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path)
        lists = ("vr", "mdx", "mdx_vip", "mdx23c", "mdx23c_vip", "roformer")
        known: dict[str, dict[str, Any]] = {f"{each}_download_list": {} for each in lists}
        known["mdx_download_vip_list"] = known["mdx23c_download_vip_list"] = {}
        # It takes what has a scheme for a URL and looks for its last part in the folder.
        urls = {path.name: f"https://localhost/{path.name}" for path in (*files, bag)}
        known["demucs_download_list"] = {f"Demucs v4: {job.model}": urls}
        (folder / "download_checks.json").write_text(json.dumps(known))
        ffmpeg = Path(binary(name, "ffmpeg"))
        if not shutil.which("ffmpeg") and not ffmpeg.exists():
            tell = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"
            done = subprocess.run(
                [binary(name, "python"), "-c", tell], capture_output=True, text=True, check=True
            )
            ffmpeg.symlink_to(done.stdout.strip())

    def command(job: Job) -> list[str]:
        (track,) = job.tracks
        return [
            *(binary(name, name), str(track), "--log_level", "warning"),
            *("--model_filename", f"{job.model}.yaml", "--model_file_dir", str(folder)),
            *("--output_dir", str(job.out / track.stem), "--output_format", "WAV"),
            *("--use_soundfile", "--normalization", "1.0", "--demucs_shifts", "0"),
            *("--custom_output_names", named),
            *(("--single_stem", job.stem.capitalize()) if job.stem else ()),
        ]

    path = os.pathsep.join((str(VENVS / name / "bin"), os.environ.get("PATH", os.defpath)))
    packages = ("audio-separator[cpu]", "imageio-ffmpeg")
    return Contender(name, command, packages, prepare, {"PATH": path})


def unblend() -> Contender:
    """On this environment's torch; it needs CUDA's libraries, and FFmpeg's (4 to 8)."""
    name = "unblend"
    models_file = BUILD / name / "models.yaml"

    def prepare(job: Job) -> None:
        shutil.rmtree(models_file.parent, ignore_errors=True)
        models_file.parent.mkdir(parents=True)
        (signature,) = yaml.safe_load((MODELS / f"{job.model}.yaml").read_text())["models"]
        config = models_file.with_name("config.json")
        kwargs = {
            key: value for key, value in RELEASED.items() if key not in ("sources", "segment")
        }
        frames = int(RELEASED["segment"] * RATE)
        given = {"sources": list(STEMS), "samplerate": RATE, "segment_samples": frames}
        config.write_text(json.dumps({**given, "config": kwargs}))
        command = [
            *(binary(name, name), "models", "import", str(MODELS / f"{signature}.safetensors")),
            *("--name", job.model, "--architecture", "htdemucs", "--config", str(config)),
            *(
                "--models-file",
                str(models_file),
                "--output",
                str(models_file.parent / "weights.safetensors"),
            ),
        ]
        measure(command, models_file.with_name("import.log"))

    def command(job: Job) -> list[str]:
        return [
            *(binary(name, name), "separate", *map(str, job.tracks)),
            *("--model", job.model, "--device", job.device.split(":")[0], "--shifts", "0"),
            *("--output", str(job.out / "{track}" / "{stem}.{ext}"), "--format", "wav"),
            *(("--isolate-stem", job.stem) if job.stem else ()),
        ]

    return Contender(name, command, (name,), prepare, {"UNBLEND_EXTRA_MODELS": str(models_file)})

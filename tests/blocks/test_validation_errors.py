"""A wrong setting is refused with its full path, what was given, and where to put it right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blocks.settings import StemwrightSettings, load_settings
from blocks.settings_sources import leaves
from tasks.errors import SettingsError


def _refused(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> SettingsError:
    file = tmp_path / "stemwright.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environ=environ or {})
    return caught.value


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("enigne: {provider: auto}", "enigne", "engine"),
        ("libary: ./x", "libary", "library"),
        ("engine: {max_retires: 3}", "engine.max_retires", "engine.max_retries"),
        ("audio: {bitdepth: 16}", "audio.bitdepth", "audio.bit_depth"),
        ("gpu: {autodetect: true}", "gpu.autodetect", "gpu.auto_detect"),
        ("logging: {lvl: INFO}", "logging.lvl", "logging.level"),
        ("separation: {modell: x}", "separation.modell", "separation.model"),
        ("ingest: {max_byte: 3}", "ingest.max_byte", "ingest.max_bytes"),
        ("completeness: {silence_db: 3}", "completeness.silence_db", "completeness.silence_dbfs"),
        ("run: {job: 3}", "run.job", "run.jobs"),
        (
            "quality: {thresholds: {reveiw: 0.5}}",
            "quality.thresholds.reveiw",
            "quality.thresholds.review",
        ),
        # In the wrong place: the key is known elsewhere.
        ("provider: cloud", "provider", "engine.provider"),
        ("engine: {sample_rate: 44100}", "engine.sample_rate", "audio.sample_rate"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, key: str, meant: str) -> None:
    error = _refused(tmp_path, text)
    assert error.cause == f"{key}: unknown key; did you mean {meant}?"
    assert error.remedy == f"Correct {tmp_path / 'stemwright.yaml'}."


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("engine: {max_retries: many}", "engine.max_retries: must be a whole number, not 'many'."),
        ("engine: {max_retries: 1.5}", "engine.max_retries: must be a whole number, not 1.5."),
        ("engine: {max_retries: yes}", "engine.max_retries: must be a whole number, not true."),
        ("engine: {max_retries: -1}", "engine.max_retries: must be at least 0, not -1."),
        (
            "engine: {max_backoff_seconds: .inf}",
            "engine.max_backoff_seconds: must be a finite number, not inf.",
        ),
        (
            "engine: {provider: local-gpu}",
            "engine.provider: must be auto, local_gpu, cloud or local_cpu, not 'local-gpu'.",
        ),
        (
            "engine: {base_url: ftp://x}",
            "engine.base_url: must be an address such as https://api.example.com/v1, "
            "not 'ftp://x'.",
        ),
        ("audio: {bit_depth: 12}", "audio.bit_depth: must be 16, 24 or 32f, not 12."),
        ("gpu: {auto_detect: perhaps}", "gpu.auto_detect: must be true or false, not 'perhaps'."),
        ("logging: {level: off}", None),
        ("separation: {overlap: 1}", "separation.overlap: must be less than 1, not 1."),
        ("separation: {stems: [vocals, 3]}", "separation.stems: must be text, not ['vocals', 3]."),
        *(
            (
                f"ingest: {{tag_encoding: {name}}}",
                "ingest.tag_encoding: must be an encoding of text, as cp1251 or shift_jis, "
                f"not '{name}'.",
            )
            for name in ("klingon", "rot13", "hex", "undefined")
        ),
        ("library: ''", "library: must not be empty, not ''."),
        ("library: 5", "library: must be text, not 5."),
        ("engine: cloud", "engine: must be a section of keys, not a single value."),
        (
            "engine: {max_retries: {a: 1}}",
            "engine.max_retries: must be a whole number, not a mapping.",
        ),
    ],
)
def test_a_wrong_value_is_named_and_shown(tmp_path: Path, text: str, cause: str | None) -> None:
    error = _refused(tmp_path, text)
    if cause is None:
        cause = "logging.level: must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not false."
    assert error.cause == cause


@pytest.mark.parametrize(
    ("written", "name"), [("CP1251", "cp1251"), ("Shift-JIS", "shift_jis"), ("''", "")]
)
def test_a_code_page_has_one_name(tmp_path: Path, written: str, name: str) -> None:
    file = tmp_path / "stemwright.yaml"
    file.write_text(f"ingest: {{tag_encoding: {written}}}")
    assert load_settings(file, environ={}).ingest_policy().tag_encoding == name


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    error = _refused(
        tmp_path, "engine: {max_retries: a, max_backoff_seconds: 0}\naudio: {bit_depth: 8}"
    )
    assert [line.split(":")[0] for line in error.cause.splitlines()] == [
        "engine.max_retries",
        "engine.max_backoff_seconds",
        "audio.bit_depth",
    ]


@pytest.mark.parametrize(
    ("overrides", "environ", "place"),
    [
        ({"run": {"jobs": -1}}, {}, "the command line"),
        ({}, {"STEMWRIGHT_RUN__JOBS": "-1"}, "the environment variable STEMWRIGHT_RUN__JOBS"),
    ],
)
def test_the_remedy_names_the_door(
    overrides: dict[str, Any], environ: dict[str, str], place: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=overrides, environ=environ)
    assert caught.value.cause.startswith("run.jobs: must be at least 0, not ")
    assert caught.value.remedy == f"Correct {place}."


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity"])
def test_a_number_that_is_not_finite_is_refused_at_every_door(text: str) -> None:
    with pytest.raises(SettingsError, match="must be a finite number"):
        load_settings(environ={"STEMWRIGHT_QUALITY__RESIDUAL_FAIL_DB": text})
    with pytest.raises(SettingsError, match="must be a finite number"):
        load_settings(overrides={"ingest": {"timeout_s": float(text)}}, environ={})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("separation: {bit_depth: 32f}", "separation.bit_depth"),
        ("quality: {thresholds: {fail: 0.8}}", "quality.thresholds.fail"),
        ("quality: {residual_fail_db: -40}", "quality.residual_fail_db"),
        ("ingest: {min_duration_s: 9, max_duration_s: 3}", "ingest.min_duration_s"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, text: str, key: str
) -> None:
    assert _refused(tmp_path, text).cause.startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"engine: [", "is not YAML"),
        (b"engine:\n\tprovider: auto\n", r"found character '\\t'.*\(line 2, column 1\)"),
        (b"run: {jobs: 1}\nrun: {window: 2}\n", r"given twice \(line 2, column 1\)"),
        (b"- a\n- b\n", "holds no sections"),
        (b"library: \xff\xfe", "not UTF-8"),
        (b"a: &a [*a]\nlibrary: *b", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        load_settings(file, environ={})


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        load_settings(tmp_path, environ={})


def test_every_field_has_a_title_and_a_description() -> None:
    bare = []
    for path, _ in leaves(StemwrightSettings):
        model: Any = StemwrightSettings
        for part in path.split("."):
            field = model.model_fields[part]
            model = field.annotation
        if not field.title or not (field.description or "").endswith("."):
            bare.append(path)
    assert bare == []

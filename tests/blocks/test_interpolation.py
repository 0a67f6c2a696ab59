"""`${NAME}` comes from the environment, within a text too; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.settings import StemwrightSettings, load_settings
from tasks.errors import SettingsError


def _load(tmp_path: Path, text: str, **environ: str) -> StemwrightSettings:
    file = tmp_path / "stemwright.yaml"
    file.write_text(text)
    return load_settings(file, environ=environ)


@pytest.mark.parametrize(
    ("written", "environ", "library"),
    [
        ("${LIB}", {"LIB": "/music"}, "/music"),
        ("s3://${BUCKET}/${TEAM}/stems", {"BUCKET": "b", "TEAM": "t"}, "s3://b/t/stems"),
        ("${LIB:-./here}", {}, "./here"),
        ("${LIB:-./here}", {"LIB": ""}, "./here"),
        ("${LIB:-./here}", {"LIB": "/there"}, "/there"),
        ("./a${LIB:-}", {}, "./a"),
        ("$${LIB}", {"LIB": "x"}, "${LIB}"),
        ("$$$${LIB}", {}, "$${LIB}"),
        ("$LIB costs 5$", {"LIB": "x"}, "$LIB costs 5$"),
        ("${LIB}", {"LIB": "${OTHER}"}, "${OTHER}"),
    ],
)
def test_a_text_is_filled_in(
    tmp_path: Path, written: str, environ: dict[str, str], library: str
) -> None:
    assert _load(tmp_path, f'library: "{written}"', **environ).library == library


def test_numbers_booleans_and_lists_are_filled_in(tmp_path: Path) -> None:
    settings = _load(
        tmp_path,
        'engine: {max_retries: "${N}", offline: "${OFF:-true}"}\n'
        'separation: {stems: ["${STEM}", drums]}',
        N="7",
        STEM="vocals",
    )
    assert (settings.engine.max_retries, settings.engine.offline) == (7, True)
    assert settings.separation.stems == ("vocals", "drums")


def test_the_source_names_the_variable(tmp_path: Path) -> None:
    settings = _load(tmp_path, "library: ${LIB}", LIB="/music")
    assert settings.sources() == {"library": f"{tmp_path / 'stemwright.yaml'} (${{LIB}})"}


@pytest.mark.parametrize("text", ["library: ${LIB}/x", 'separation: {stems: ["${LIB}"]}'])
def test_an_unset_variable_is_named_with_its_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, text)
    key = "library" if text.startswith("library") else "separation.stems"
    assert caught.value.cause == f"{key}: the environment variable LIB is not set."


@pytest.mark.parametrize("written", ["${}", "${1X}", "${LIB-x}", "${LIB"])
def test_what_only_looks_like_a_variable_is_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(SettingsError, match=r"library: .* holds no variable's name"):
        _load(tmp_path, f'library: "{written}"', LIB="x")


@pytest.mark.parametrize("environ", [{}, {"MY_KEY": ""}])
def test_an_unset_key_waits_until_it_is_needed(tmp_path: Path, environ: dict[str, str]) -> None:
    text = 'engine: {api_key: "key-${MY_KEY}", base_url: "https://stems.test"}'
    if environ:
        text = text.replace("key-", "")
    settings = _load(tmp_path, text, **environ)
    assert settings.engine.api_key.get_secret_value() == ""
    with pytest.raises(SettingsError) as caught:
        settings.require_cloud()
    assert caught.value.cause == "MY_KEY is not set."


def test_a_key_from_another_door_needs_no_variable(tmp_path: Path) -> None:
    text = 'engine: {api_key: "${MY_KEY}", base_url: "https://stems.test"}'
    settings = _load(tmp_path, text, STEMWRIGHT_ENGINE__API_KEY="from-elsewhere")
    settings.require_cloud()
    assert settings.engine.api_key.get_secret_value() == "from-elsewhere"

"""Thresholds by stem, model and genre, from Python, YAML, the environment and a Block's fields."""

from __future__ import annotations

from pathlib import Path

import pytest

import blocks
from blocks.settings import load_settings
from tasks.contracts import QualityPolicy, QualityThresholds, ThresholdOverride
from tasks.errors import SettingsError
from tasks.quality import score_separation
from tests.quality.multitrack import Stems, mixed, reference_stems, write

WIDE = ThresholdOverride(review=0.5)


def test_the_narrower_override_wins_and_what_it_leaves_is_inherited() -> None:
    policy = QualityPolicy(
        thresholds=QualityThresholds(review=0.6, fail=0.3),
        per_model={"htdemucs": ThresholdOverride(review=0.7, fail=0.4)},
        per_genre={"Ambient": ThresholdOverride(review=0.5)},
        per_stem={"vocals": ThresholdOverride(fail=0.2)},
    )

    def found(*stem: str, **where: str) -> tuple[float, float]:
        thresholds = policy.thresholds_for(*stem, **where)
        return thresholds.review, thresholds.fail

    assert found() == found("drums", model="other", genre="rock") == (0.6, 0.3)
    assert found("drums", model="htdemucs") == (0.7, 0.4)
    assert found("drums", model="htdemucs", genre="ambient") == (0.5, 0.4)
    assert found("vocals", model="htdemucs", genre="AMBIENT") == (0.5, 0.2)
    assert found("Vocals") == (0.6, 0.2)


def test_an_inherited_threshold_gives_way_to_one_that_is_set() -> None:
    policy = QualityPolicy(
        per_stem={"vocals": ThresholdOverride(review=0.2), "drums": ThresholdOverride(fail=0.8)}
    )
    assert policy.thresholds_for("vocals") == QualityThresholds(review=0.2, fail=0.2)
    assert policy.thresholds_for("drums") == QualityThresholds(review=0.8, fail=0.8)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    folder, stems = tmp_path_factory.mktemp("damaged"), reference_stems(5)
    changed: Stems = {**stems, "vocals": stems["vocals"] + 0.5 * stems["drums"]}
    return folder / "mixture.wav", write(folder, mixed(stems), changed)


def test_a_verdict_follows_the_overrides(damaged: tuple[Path, dict[str, Path]]) -> None:
    mixture, stems = damaged
    score = score_separation(mixture, stems).stems["vocals"].score
    assert score is not None
    assert 0.05 < score < 0.95
    lenient = ThresholdOverride(review=score - 0.04, fail=0.0)
    strict = ThresholdOverride(review=1.0, fail=score + 0.04)

    def verdict(policy: QualityPolicy, **where: str) -> str:
        return score_separation(mixture, stems, policy, **where).stems["vocals"].verdict

    assert verdict(QualityPolicy(per_stem={"vocals": lenient})) == "pass"
    assert verdict(QualityPolicy(per_stem={"vocals": strict})) == "fail"
    by_model = QualityPolicy(per_model={"net": strict}, per_stem={"vocals": ThresholdOverride()})
    assert verdict(by_model, model="net") == "fail"
    by_genre = QualityPolicy(per_model={"net": strict}, per_genre={"rock": lenient})
    assert verdict(by_genre, model="net", genre="Rock") == "pass"
    assert verdict(by_genre, model="net", genre="folk") == "fail"


def test_yaml_environment_and_block_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "stemwright.yaml"
    file.write_text("quality: {per_stem: {vocals: {review: .5}}}\n")
    by_yaml = load_settings(file, environ={}).quality
    given = {"STEMWRIGHT_QUALITY__PER_STEM": '{"vocals": {"review": 0.5}}'}
    block = blocks.QualityPolicy(per_stem={"vocals": {"review": 0.5}})
    assert by_yaml == QualityPolicy(per_stem={"vocals": WIDE})
    assert load_settings(environ=given).quality == by_yaml
    assert load_settings(overrides=block.to_settings(), environ={}).quality == by_yaml


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"vocals": {"review": 2}}', "at most 1"),
        ('{"vocals": {"revew": 0.5}}', "quality.per_stem"),
        ('{"vocals": {"review": 0.2, "fail": 0.5}}', "fail must not be above review"),
        ("vocals", "quality.per_stem"),
    ],
)
def test_wrong_overrides_are_refused(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        load_settings(environ={"STEMWRIGHT_QUALITY__PER_STEM": text})

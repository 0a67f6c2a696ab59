"""Faults as a listener would name them: one plain sentence each, however many measures agree."""

from __future__ import annotations

import pytest

from tasks.contracts import Reason
from tasks.heard import SAYINGS, faults, why, worst_fault
from tasks.quality.reasons import CODES
from tasks.quality.reasons import reason as measured
from tasks.recording import TrackRow


def reason(code: str, stem: str = "", start_s: float | None = None) -> Reason:
    end_s = None if start_s is None else start_s + 1.5
    return Reason(code=code, sentence="Measured.", stem=stem, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("code", CODES)
def test_every_reason_has_a_plain_sentence(code: str) -> None:
    made = measured(code, stem="vocals", other="drums", span=(32.2, 33.7))  # type: ignore[arg-type]
    sentence = worst_fault([made])
    assert sentence[0].isupper()
    assert sentence.endswith("0:32 to 0:34." if SAYINGS[code].placed else ".")
    assert not any(mark in sentence for mark in "<{_")
    assert SAYINGS.keys() == set(CODES)


def test_what_sounds_the_same_is_folded() -> None:
    """Four measures of what a listener hears as one stem in the other."""
    found = faults(
        [
            reason("bleed_from_drums", "vocals", 32.0),
            reason("correlated_with_drums", "vocals", 10.0),
            reason("bleed_from_vocals", "drums"),
            reason("estimated_sdr_low", "vocals", 32.0),
            reason("estimated_sdr_low", "drums"),
            reason("clipping", "bass", 4.0),
        ]
    )
    assert [fault.sentence for fault in found] == [
        "Some drums can be heard in the vocals stem, worst at 0:32 to 0:34.",
        "The bass stem is distorted: its peaks are cut flat, worst at 0:04 to 0:06.",
    ]
    codes = ("bleed_from_drums", "correlated_with_drums", "bleed_from_vocals")
    assert found[0].codes == codes


def test_an_estimate_alone_is_a_fault_of_its_own() -> None:
    (only,) = faults([reason("estimated_sdr_low", "other", 1.0)])
    assert only.sentence == 'The "other" stem isn\'t clean, worst at 0:01 to 0:03.'


def test_what_is_heard_comes_before_what_is_known_of_the_source() -> None:
    some = [reason("source_damaged"), reason("dropouts", "bass", 0.0)]
    assert worst_fault(some).startswith("The bass stem drops out while the music plays on")
    assert worst_fault(some[:1]) == "Some of the source is damaged or lost."


def test_a_code_of_somebody_else_s_measure_is_told_in_its_words() -> None:
    assert worst_fault([reason("too_few_words", "vocals")]) == "The vocals stem: too few words."


def test_a_row_from_before_there_were_sentences_says_its_codes() -> None:
    codes = ("bleed_from_vocals", "residual_high", "clipping")
    assert why(TrackRow(reasons=codes)) == "bleed from vocals, residual high"
    assert why(TrackRow(reasons=codes, worst="It hums.")) == "It hums."
    assert why(TrackRow()) == ""

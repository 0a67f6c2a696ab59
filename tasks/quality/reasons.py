"""The closed list of reasons below pass: a code, a sentence, and what to do about it."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from tasks.contracts import Reason
from tasks.quality.spans import Span

Code = Literal[
    "estimated_sdr_low",
    "bleed_from_<stem>",
    "correlated_with_<stem>",
    "spread_over_stems",
    "missing_energy",
    "gain_off",
    "dropouts",
    "cuts",
    "truncated_tail",
    "clipping",
    "lowpass_cliff",
    "rough_spectrum",
    "contrary_motion",
    "stereo_collapse",
    "residual_high",
    "<stem>_silent_but_expected",
    "mixture_silent",
    "source_damaged",
    "too_short",
    "swapped_with_<stem>",
    "changed_places_with_<stem>",
    "lossy_source",
]
"""In the code of a reason, `<stem>` is replaced by the name of the stem that it speaks of."""

CODES: tuple[Code, ...] = get_args(Code)


class Text(NamedTuple):
    """Templates: {stem} is the stem judged, {other} the one that it has to do with."""

    sentence: str
    advice: str


_LISTEN = "Listen to it beside the mixture"

TEXTS: dict[Code, Text] = {
    "estimated_sdr_low": Text(
        "The {stem} stem is estimated at {value:.1f} dB SI-SDR.",
        f"{_LISTEN}; a larger model may do better.",
    ),
    "bleed_from_<stem>": Text(
        "The {stem} stem holds some of the {other} stem: {value:.1f} dB of its energy follows "
        "other stems.",
        "Solo it and listen for what belongs there.",
    ),
    "correlated_with_<stem>": Text(
        "The {stem} stem has a correlation of {value:.2f} with the {other} stem.",
        "The two may hold the same source; compare them.",
    ),
    "spread_over_stems": Text(
        "What the {stem} stem holds is spread over several stems (assignment entropy {value:.2f}).",
        "The model couldn't tell which stem it belongs to; try another model.",
    ),
    "missing_energy": Text(
        "Some of what belongs in the {stem} stem is in no stem: {value:.1f} dB of its energy.",
        "Listen to what the stems leave of the mixture.",
    ),
    "gain_off": Text(
        "The {stem} stem's level is wrong: it fits the mixture best multiplied by {value:.2f}.",
        "Check that the stems weren't normalized one by one.",
    ),
    "dropouts": Text(
        "The {stem} stem breaks off while the mixture plays on, for {percent:.0f} % of the time.",
        "Separate the track again.",
    ),
    "cuts": Text(
        "The {stem} stem is cut off abruptly {value:.1f} times a minute.",
        "Separate the track again.",
    ),
    "truncated_tail": Text(
        "The {stem} stem breaks off {value:.1f} s before the mixture ends.",
        "Separate the track again.",
    ),
    "clipping": Text(
        "The {stem} stem has flat tops at its peak ({value:.0f} samples a million).",
        "Check the gain that the stems were written with.",
    ),
    "lowpass_cliff": Text(
        "The {stem} stem's spectrum falls off a cliff {value:.0f} dB deeper than any in the "
        "mixture.",
        "Look for a lossy step or a lower sample rate after the separation.",
    ),
    "rough_spectrum": Text(
        "The {stem} stem's spectrum is ragged: {value:.1f} dB from bin to bin.",
        f"{_LISTEN} for watery, chirping tones.",
    ),
    "contrary_motion": Text(
        "The {stem} stem's partials fall where those of the other stems rise, and rise where they "
        "fall ({percent:.0f} % of their motion).",
        f"{_LISTEN} for notes that flicker between stems.",
    ),
    "stereo_collapse": Text(
        "The {stem} stem is mono, yet stereo width ({value:.1f} dB of its energy) is in no stem.",
        "Check that the stems were written in stereo.",
    ),
    "residual_high": Text(
        "The stems leave {value:.1f} dB of the mixture unexplained.",
        "Listen to the mixture minus the stems; a stem may be missing or at a wrong level.",
    ),
    "<stem>_silent_but_expected": Text(
        "The {stem} stem is silent, yet the other stems don't make up the mixture.",
        "Listen to the mixture for what belongs there; if it is there, separate the track again.",
    ),
    "mixture_silent": Text(
        "The mixture is silent, so there is nothing to judge.",
        "Check that the source is the one that was meant.",
    ),
    "source_damaged": Text(
        "The source is damaged: {value:.2f} s of it are lost.",
        "Listen there, or fetch or export it again.",
    ),
    "too_short": Text(
        "The track lasts {value:.2f} s: too little to tell a fault of the {stem} stem from chance.",
        f"{_LISTEN}.",
    ),
    "swapped_with_<stem>": Text(
        "The {stem} stem sounds like the {other} stem and the other way round ({value:.1f} nats).",
        "Solo both; their names may be swapped.",
    ),
    "changed_places_with_<stem>": Text(
        "For a while the {stem} stem holds what belongs in the {other} stem, and the other way "
        "round ({value:.1f} dB of its energy).",
        "Solo both there; separate the track again.",
    ),
    "lossy_source": Text(
        "The mixture's spectrum falls off a cliff of {value:.0f} dB, as lossy codecs leave it.",
        "If there is a lossless source, separate that one.",
    ),
}


def reason(
    code: Code, *, stem: str = "", other: str = "", value: float = 0.0, span: Span | None = None
) -> Reason:
    """A reason with its sentences filled in.

    Args:
        code: One of the closed list.
        stem: The stem judged; empty for the track as a whole.
        other: The stem that `<stem>` in the code stands for, where that isn't the one judged.
        value: The measure, in its own unit.
        span: Where it is worst, seconds.
    """
    named = other or stem
    words = {
        "stem": stem,
        "other": named,
        "value": value,
        "percent": 100 * value,
    }
    text = TEXTS[code]
    sentence = f"{text.sentence} {text.advice}".format(**words)
    return Reason(
        code=code.replace("<stem>", named),
        sentence=sentence[0].upper() + sentence[1:],
        stem=stem,
        value=value,
        start_s=span[0] if span else None,
        end_s=span[1] if span else None,
    )

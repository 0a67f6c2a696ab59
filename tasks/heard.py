"""What is wrong with a separation as a listener would say it: a plain sentence a fault.

The measures give many reasons for what is one thing to the ear: a stem that holds some of another
is correlated with it, and spread over both. Such reasons are folded into one `Fault`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from tasks.contracts import Reason
from tasks.wording import passage


class Saying(NamedTuple):
    """`sentence` has {stem} for the stem judged, {other} for the one that it has to do with, and
    {sound} for what that one holds.

    Reasons with one `family` say the same thing of a stem; of a pair of stems where both are named.
    """

    family: str
    sentence: str
    placed: bool = True


SAYINGS: dict[str, Saying] = {
    "bleed_from_<stem>": Saying("bleed", "Some {sound} can be heard in {stem}"),
    "correlated_with_<stem>": Saying("bleed", "{stem} and {other} sound alike in places"),
    "changed_places_with_<stem>": Saying("swap", "{stem} and {other} change places for a while"),
    "swapped_with_<stem>": Saying("swap", "{stem} and {other} may have each other's names"),
    "<stem>_silent_but_expected": Saying("missing", "{stem} is silent, yet music is missing"),
    "spread_over_stems": Saying("spread", "What belongs in {stem} is spread over several stems"),
    "missing_energy": Saying("missing", "Some of what belongs in {stem} is in no stem"),
    "residual_high": Saying("missing", "The stems leave out some of the music"),
    "gain_off": Saying("level", "{stem} is too loud or too quiet"),
    "dropouts": Saying("breaks", "{stem} drops out while the music plays on"),
    "cuts": Saying("breaks", "{stem} is cut off abruptly"),
    "truncated_tail": Saying("breaks", "{stem} ends before the music does"),
    "clipping": Saying("distortion", "{stem} is distorted: its peaks are cut flat"),
    "lowpass_cliff": Saying("dull", "{stem} sounds dull: its treble is cut off"),
    "rough_spectrum": Saying("watery", "{stem} sounds watery"),
    "contrary_motion": Saying("watery", "Notes flicker between {stem} and the others"),
    "stereo_collapse": Saying("mono", "{stem} is mono where the music is wide"),
    "mixture_silent": Saying("silence", "The track is silent", placed=False),
    "source_damaged": Saying("source", "Some of the source is damaged or lost", placed=False),
    "too_short": Saying("source", "The track is too short to judge", placed=False),
    "lossy_source": Saying("source", "The source was lossy before it came here", placed=False),
    "estimated_sdr_low": Saying("unclean", "{stem} isn't clean"),
}
"""By the codes of `tasks.quality.reasons`, `<stem>` standing for a stem's name."""

_AFTER = {"source": 1, "unclean": 2}
"""Families that come after what is heard in the stems: where a fault is known, that is meant."""


class Fault(NamedTuple):
    """One thing that is wrong. `reasons` are what the measures say of it, the worst first."""

    sentence: str
    reasons: tuple[Reason, ...]

    @property
    def worst(self) -> Reason:
        return self.reasons[0]

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(reason.code for reason in self.reasons))


class Explained(Protocol):
    """A row that has its worst fault, or from before there were such only codes."""

    @property
    def worst(self) -> str: ...
    @property
    def reasons(self) -> Sequence[str]: ...


def faults(reasons: Iterable[Reason]) -> tuple[Fault, ...]:
    """Fold reasons, given with the worst first, into what a listener would tell apart."""
    folded: dict[tuple[str, frozenset[str]], list[Reason]] = {}
    for reason in reasons:
        saying, other = _saying(reason.code)
        stems = frozenset((reason.stem, other)) - {""}
        folded.setdefault((saying.family, stems), []).append(reason)
    known = {stem for (family, stems) in folded if family != "unclean" for stem in stems}
    found = [
        (_AFTER.get(family, 0), Fault(_sentence(some[0]), tuple(some)))
        for (family, stems), some in folded.items()
        # That a stem isn't clean goes without saying where it is said why.
        if family != "unclean" or not stems <= known
    ]
    return tuple(fault for _, fault in sorted(found, key=lambda pair: pair[0]))


def worst_fault(reasons: Iterable[Reason]) -> str:
    """Return the worst thing that is heard, and where, as one sentence; empty for no reasons."""
    return next((fault.sentence for fault in faults(reasons)), "")


def why(row: Explained) -> str:
    """Return the worst fault of a row, or its codes in words where it has no more."""
    return row.worst or code_words(row.reasons[:2])


def code_words(codes: Iterable[str]) -> str:
    """Return codes in words: "bleed from vocals, residual high"."""
    return ", ".join(code.replace("_", " ") for code in codes)


def _saying(code: str) -> tuple[Saying, str]:
    """Return what a code says, and the stem that is named in it."""
    for pattern, saying in SAYINGS.items():
        before, placeholder, after = pattern.partition("<stem>")
        if code == pattern:
            return saying, ""
        if placeholder and code.startswith(before) and code.endswith(after):
            name = code[len(before) : len(code) - len(after)]
            if name:
                return saying, name
    # Somebody else's measure has codes of its own.
    return Saying(code, f"{{stem}}: {code_words([code])}"), ""


def _sentence(reason: Reason) -> str:
    saying, other = _saying(reason.code)
    said = saying.sentence.format(
        stem=_stem(reason.stem or other),
        other=_stem(other),
        sound="other instruments" if other == "other" else other,
    )
    where = passage(reason.start_s, reason.end_s) if saying.placed else ""
    return f"{said[0].upper()}{said[1:]}{f', worst at {where}' if where else ''}."


def _stem(name: str) -> str:
    """Return a stem as it is spoken of; "the other stem" would be taken for one of two."""
    if not name:
        return "the track"
    return 'the "other" stem' if name == "other" else f"the {name} stem"

"""What of a source is lost, and how much of that its policy accepts."""

from __future__ import annotations

from tasks.contracts import AudioPolicy
from tasks.errors import CorruptAudio

# Unless the policy says otherwise: whichever is more.
_ACCEPTED_S, _ACCEPTED_SHARE = 1.0, 0.01


class Damage:
    """Counts the places where a source is damaged, and the seconds lost there.

    Attributes:
        count: Places.
        seconds: Lost in all of them, as far as that is known.
        first_s: Where the first one is.
    """

    def __init__(self, policy: AudioPolicy) -> None:
        self.count = 0
        self.seconds = 0.0
        self.first_s = 0.0
        self._policy = policy

    @property
    def refused(self) -> bool:
        """Whether any damage at all is refused."""
        return self._policy.damaged == "refuse"

    def add(self, at_s: float, seconds: float) -> None:
        """Note a place.

        Raises:
            CorruptAudio: The policy refuses it, or would however long the source turns out to be.
        """
        self.first_s = self.first_s if self.count else at_s
        self.count += 1
        self.seconds += seconds
        self.check(self._policy.max_duration_s)

    def check(self, total_s: float) -> None:
        """Hold what is lost of a source of that length to the policy.

        Raises:
            CorruptAudio: It is more than the policy accepts.
        """
        accepted_s = self._policy.max_damaged_s or max(_ACCEPTED_S, _ACCEPTED_SHARE * total_s)
        if self.count and (self.refused or self.seconds > accepted_s):
            raise self.error()

    def error(self) -> CorruptAudio:
        """The failure of a source that is damaged beyond what is accepted."""
        return CorruptAudio(f"its audio is damaged at {self.first_s:.1f} s.")

    def note(self) -> str:
        """What was accepted, as a sentence; empty where there was nothing."""
        if not self.count:
            return ""
        more = {1: "", 2: " and at one more place"}.get(
            self.count, f" and at {self.count - 1} more places"
        )
        return f"It is damaged at {self.first_s:.1f} s{more}: {self.seconds:.2f} s of it are lost."

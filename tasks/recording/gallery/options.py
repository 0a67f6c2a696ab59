"""What goes into a gallery, and the limits that keep it a page a browser can open."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts import Value, Verdict

AudioChoice = Literal["auto", "embed", "link", "none"]

EMBEDDED_BYTES = 32 * 1024**2
"""`auto` embeds up to this much audio: some 45 minutes, all stems and mixtures added up."""

INLINE_TRACKS = 100
INLINE_AUDIO_BYTES = 64 * 1024**2
"""With more pictured tracks, or more audio, than this, each track's part is a file of its own."""


class GalleryOptions(Value):
    """Which tracks a gallery shows, and how much of each."""

    verdict: Verdict | None = None
    limit: int = Field(default=0, ge=0, description="Tracks in the table, worst first; 0 is all.")
    pictures: int = Field(
        default=300, ge=0, description="Tracks with pictures and audio; flagged ones come first."
    )
    audio: AudioChoice = "auto"

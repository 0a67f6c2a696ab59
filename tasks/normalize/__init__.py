"""Any codec that FFmpeg's libraries read, to a lossless stereo mixture at the models' rate.

`normalize` writes the mixture, `identify` names a file by its audio packets without decoding,
`probe` reads what a file says of itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.normalize.identity import duration_s, identify, probe
    from tasks.normalize.normalizing import normalize

__all__ = ["duration_s", "identify", "normalize", "probe"]


def __getattr__(name: str) -> Any:
    # PyAV and soxr take a third of a second to import: not before they are needed.
    if name == "normalize":
        from tasks.normalize.normalizing import normalize

        return normalize
    if name in ("duration_s", "identify", "probe"):
        from tasks.normalize import identity

        return getattr(identity, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""How well a separation came out, judged without the true stems.

A blind score sees what doesn't fit between the stems and their mixture. It can't see a swap, or
a plausible stem with the wrong instrument in it: such a separation can look perfect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.quality.score import score_separation

__all__ = ["score_separation"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tasks.quality import score

        return getattr(score, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

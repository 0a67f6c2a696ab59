"""Is a stem set whole: every stem there, sound, of the mixture's shape, and summing to it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.validation.completeness import check_completeness

__all__ = ["check_completeness"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tasks.validation import completeness

        return getattr(completeness, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

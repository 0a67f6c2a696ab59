"""Separation on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.separation.deadline import default_deadline_s

if TYPE_CHECKING:
    from tasks.separation.local.separator import LocalSeparator

__all__ = ["LocalSeparator", "default_deadline_s"]


def __getattr__(name: str) -> Any:
    if name == "LocalSeparator":
        from tasks.separation.local.separator import LocalSeparator

        return LocalSeparator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

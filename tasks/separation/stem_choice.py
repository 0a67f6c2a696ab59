"""Which of a model's stems are kept."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import SettingsError


def kept_stems(model: str, sources: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """The stems to keep, in the model's order; none asked for means all.

    Raises:
        SettingsError: A stem that the model doesn't separate.
    """
    strangers = [name for name in asked if name not in sources]
    if strangers:
        raise SettingsError(
            f"{model} has no stem {', '.join(map(repr, strangers))}; it has {', '.join(sources)}.",
            stage="separate",
        )
    return tuple(name for name in sources if not asked or name in asked)

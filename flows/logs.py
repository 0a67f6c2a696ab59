"""Our own loggers, and how much they say."""

from __future__ import annotations

import logging

LOGGERS = ("flows", "blocks", "tasks")
"""What a run says, and what the stages' modules say; `server.env` has Prefect take them over."""


def set_level(level: str) -> None:
    """What `logging.level` means: the least that our loggers pass on."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(level)

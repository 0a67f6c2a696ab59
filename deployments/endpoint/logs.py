"""Log lines as JSON objects, one a line, on stderr: what happened, to which job or request.

Nothing that a caller sent is logged but the method, the route's pattern and ids: no header, no
query, no file name.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_OURS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """A record and its extra fields as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: value for name, value in vars(record).items() if name not in _OURS}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            said["exception"] = record.exc_text
        return json.dumps(said, ensure_ascii=False, default=str)


def set_up_logging(level: str) -> None:
    """Ours and the server's lines at `level`, other libraries' only when they are warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("deployments", "tasks", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(level)

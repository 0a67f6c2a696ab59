"""How long one exchange with a service may take, and how slow it may be."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts import Value


class Timeouts(Value):
    """Limits of single requests, in seconds and bytes a second."""

    connect_s: float = Field(default=10.0, gt=0, title="Time to connect")
    stall_s: float = Field(default=30.0, gt=0, title="Longest time without a byte")
    answer_s: float = Field(default=90.0, gt=0, title="Time for a whole answer")
    grace_s: float = Field(default=20.0, gt=0, title="Time before a stem's speed is looked at")
    least_bytes_per_s: float = Field(default=20_000.0, gt=0, title="Slowest transfer")
    connections: int = Field(default=100, ge=4, title="Connections to one service")

    def upload_s(self, size: int) -> float:
        """Time for an upload of this many bytes and its answer."""
        return self.answer_s + size / self.least_bytes_per_s

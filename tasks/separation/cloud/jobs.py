"""What a provider is asked for, and the job that it makes of it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tasks.contracts import BitDepth, SeparationJob, StemFormat, Value


class ProviderRequest(Value):
    """What a provider is asked for. Kept with the job, so that a later run can go on with it.

    `stems` are our names, in the model's order; `all_stems` says whether they are all of it.
    """

    path: Path
    stems: tuple[str, ...]
    all_stems: bool = True
    model: str = "htdemucs"
    format: StemFormat = "flac"
    bit_depth: BitDepth = "24"
    duration_s: float = 0.0
    idempotency_key: str


class ProviderJob(SeparationJob):
    """A job as a provider's class reads it: its status and stems in our words.

    Attributes:
        absent: Stems that the provider looked for and found nothing of: silence, and no fault.
        broken: Stems that the provider failed at, with its words.
        gain: What all its stems are multiplied by.
        cost_usd: What the provider says that it charged; None where it doesn't say.
        standing: How far it is, in whatever words; that it changes shows that the job gets on.
        handle: What is needed to ask for the job again, beyond its id.
    """

    absent: tuple[str, ...] = ()
    broken: dict[str, str] = Field(default_factory=dict)
    gain: float = 1.0
    cost_usd: float | None = None
    standing: str = ""
    handle: dict[str, str] = Field(default_factory=dict)

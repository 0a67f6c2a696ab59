"""One stem set of two: some stems made by one engine, the rest by another."""

from __future__ import annotations

from tasks.contracts import StemSet

_OF_THE_MAKER = (
    "separation_id",
    "model",
    "weights_sha256",
    "engine",
    "provider",
    "device",
    "device_reasons",
)


def join_stem_sets(first: StemSet, then: StemSet) -> StemSet:
    """The stems of both, `then`'s in place of `first`'s where both have one.

    The set is named after the engine that made most of them, on a tie after the first. Times,
    costs and attempts add up; the gain is the first one's, which the second was told.
    """
    kept = len(first.stems.keys() - then.stems.keys())
    maker = first if kept >= len(then.stems) else then
    return first.model_copy(
        update={
            **{name: getattr(maker, name) for name in _OF_THE_MAKER},
            "stems": first.stems | then.stems,
            "stem_origins": first.stem_origins | then.stem_origins,
            "separation_s": first.separation_s + then.separation_s,
            "attempts": first.attempts + then.attempts,
            "cost_usd": first.cost_usd + then.cost_usd,
            "route": first.route + then.route,
        }
    )

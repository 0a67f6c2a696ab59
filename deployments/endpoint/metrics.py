"""What Prometheus may ask: counts and durations, and nothing that names a caller or a track."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from deployments.endpoint.jobs import Status

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SEPARATION_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)


class Metrics:
    """The endpoint's own registry.

    Args:
        jobs: How many there are in each status.
        factor: Seconds of audio a second of work, over the last jobs; None before the first.
    """

    def __init__(
        self, jobs: Callable[[], Mapping[Status, int]], factor: Callable[[], float | None]
    ) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "stemwright_endpoint_requests",
            "Answered requests.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "stemwright_endpoint_request_seconds",
            "From a request's first byte to its answer's last.",
            ("route",),
            registry=self.registry,
        )
        self.upload_bytes = Counter(
            "stemwright_endpoint_upload_bytes",
            "Bytes of submits that were read, refused ones included.",
            registry=self.registry,
        )
        self.jobs_ended = Counter(
            "stemwright_endpoint_jobs_ended",
            "Jobs that came to an end.",
            ("status",),
            registry=self.registry,
        )
        self.separation_seconds = Histogram(
            "stemwright_endpoint_separation_seconds",
            "Of each complete job, on the device.",
            buckets=_SEPARATION_BUCKETS,
            registry=self.registry,
        )
        self.audio_seconds = Counter(
            "stemwright_endpoint_audio_seconds",
            "Audio of complete jobs.",
            registry=self.registry,
        )
        for status in ("complete", "failed"):
            self.jobs_ended.labels(status)
        self.registry.register(_Now(jobs, factor))

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


class _Now:
    """What is looked up when it is asked for."""

    def __init__(
        self, jobs: Callable[[], Mapping[Status, int]], factor: Callable[[], float | None]
    ) -> None:
        self._jobs = jobs
        self._factor = factor

    def collect(self) -> Iterator[Metric]:
        counts = self._jobs()
        jobs = GaugeMetricFamily(
            "stemwright_endpoint_jobs", "Jobs that are kept, by status.", labels=("status",)
        )
        for status, count in counts.items():
            jobs.add_metric((status,), count)
        yield jobs
        yield GaugeMetricFamily(
            "stemwright_endpoint_queue_length", "Jobs that wait.", value=counts["queued"]
        )
        factor = self._factor()
        if factor is not None:
            yield GaugeMetricFamily(
                "stemwright_endpoint_realtime_factor",
                "Seconds of audio a second of work, over the last jobs.",
                value=factor,
            )

"""Separation by a service that speaks the API of `interfaces.md` section 5."""

from __future__ import annotations

from tasks.separation.cloud.client import SeparationApi
from tasks.separation.cloud.retries import RetryPolicy
from tasks.separation.cloud.separator import CloudSeparator

__all__ = ["CloudSeparator", "RetryPolicy", "SeparationApi"]

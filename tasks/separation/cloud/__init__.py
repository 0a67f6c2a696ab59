"""Separation by services: one client, and a dialect for each service.

`interfaces.md` section 5 is the API that `dialects/stemwright.py` speaks.
"""

from __future__ import annotations

from tasks.net.retries import RetryPolicy
from tasks.separation.cloud.api import SeparationApi
from tasks.separation.cloud.job_store import Ledger
from tasks.separation.cloud.providers import SERVICES, make_service
from tasks.separation.cloud.separator import CloudSeparator
from tasks.separation.cloud.timeouts import Bounds
from tasks.separation.cloud.uploads import UploadPolicy

__all__ = [
    "SERVICES",
    "Bounds",
    "CloudSeparator",
    "Ledger",
    "RetryPolicy",
    "SeparationApi",
    "UploadPolicy",
    "make_service",
]

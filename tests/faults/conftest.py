from __future__ import annotations

from tests.flows.conftest import config, models_dir

__all__ = ["config", "models_dir"]

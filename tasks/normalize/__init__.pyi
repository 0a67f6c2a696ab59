from .identification import duration_s, identify, probe
from .normalizing import normalize

__all__ = ["duration_s", "identify", "normalize", "probe"]

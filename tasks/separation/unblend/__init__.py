"""BS-RoFormer, Mel-Band RoFormer and SCNet on this machine, through the library `unblend`."""

from tasks.separation.unblend.separator import UnblendSeparator

__all__ = ["UnblendSeparator"]

"""Separation by services: one client, and a class for each provider.

`INTERFACES.md` section 5 is the API that `providers/stemwright.py` speaks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Separation models: which there are, where their weights lie, and loading them.

Finding, listing and verifying read only headers and hashes: torch is imported by `load_network`
and `import_checkpoint` alone. `family.ModelFamily` is what a kind of networks has to offer.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

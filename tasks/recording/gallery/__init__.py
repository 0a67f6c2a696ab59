"""The gallery: one HTML file to look at and listen to a library's separations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

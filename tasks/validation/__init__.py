"""Is a stem set whole: every stem there, sound, of the mixture's shape, and summing to it?"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

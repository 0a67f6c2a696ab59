"""How well a separation came out, judged without reference stems.

A blind score sees what doesn't fit between the stems and their mixture. It can't see a swap, or
a plausible stem with the wrong instrument in it: such a separation can look perfect.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""What a deployment configures: the YAML settings and Prefect Blocks, the same fields two ways.

`load_settings` reads them all; importing this package imports neither Prefect nor a model.
`prefect block register -m blocks` registers the five Blocks, which it finds by `dir()`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The measures: each a class in a file of its own, registered because it stands in this folder."""

import pkgutil
from importlib import import_module

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

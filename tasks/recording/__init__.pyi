from .index import LibraryIndex as LibraryIndex
from .library import Library as Library
from .pruning import Superseded as Superseded
from .pruning import superseded as superseded
from .query import find as find
from .rows import Alias as Alias
from .rows import StemRow as StemRow
from .rows import TrackRow as TrackRow

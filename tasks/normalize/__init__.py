"""Any codec that FFmpeg's libraries read, to a lossless stereo mixture at the models' rate.

`normalize` writes the mixture, `identify` names a file by its audio packets without decoding,
`probe` and `duration_s` read what a file says of itself.
"""

import lazy_loader

# PyAV and soxr take a third of a second to import: not before they are needed.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

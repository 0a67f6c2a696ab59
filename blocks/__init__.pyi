from .prefect_blocks import CloudSeparationApi as CloudSeparationApi
from .prefect_blocks import IngestPolicy as IngestPolicy
from .prefect_blocks import QualityPolicy as QualityPolicy
from .prefect_blocks import SeparationSettings as SeparationSettings
from .prefect_blocks import StemLibrary as StemLibrary
from .redaction import install_redaction as install_redaction
from .settings import StemwrightSettings as StemwrightSettings
from .settings import load_settings as load_settings

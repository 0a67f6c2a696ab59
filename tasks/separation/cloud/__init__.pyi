from .api import SeparationApi as SeparationApi
from .cloud_engine import CloudEngine as CloudEngine
from .job_store import JobStore as JobStore
from .providers import make_provider as make_provider
from .providers import provider_names as provider_names
from .timeouts import Timeouts as Timeouts
from .uploads import UploadPolicy as UploadPolicy

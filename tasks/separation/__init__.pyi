import tasks.contracts as _contracts
import tasks.stem_separation_engine as _facade

from .cloud import CloudEngine as CloudEngine
from .cloud import SeparationApi as SeparationApi
from .hardware import Hardware as Hardware
from .hardware import detect as detect
from .identity import separation_id as separation_id
from .local import LocalSeparator as LocalSeparator
from .local import default_deadline_s as default_deadline_s
from .models import ModelSpec as ModelSpec
from .models import find_model as find_model
from .models import list_models as list_models
from .routing import Route as Route
from .routing import choose_engine as choose_engine
from .stem_files import write_stems as write_stems

AudioSource = _contracts.AudioSource
SeparationJob = _contracts.SeparationJob
StemSeparationEngine = _facade.StemSeparationEngine

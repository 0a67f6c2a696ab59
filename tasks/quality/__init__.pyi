from .measure import TrackMeasures as TrackMeasures
from .score import measures_of as measures_of
from .score import score_measures as score_measures
from .score import score_separation as score_separation

from .score import score_separation as score_separation

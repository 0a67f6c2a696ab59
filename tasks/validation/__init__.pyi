from .completeness import check_completeness as check_completeness

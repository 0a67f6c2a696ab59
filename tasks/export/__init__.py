"""Stems of a library under names that people read, in the formats that they want."""

from tasks.export.exporting import Exported, ExportForm, How, export_separation
from tasks.export.naming import DEFAULT_TEMPLATE, Template
from tasks.export.writing import FORMATS

__all__ = [
    "DEFAULT_TEMPLATE",
    "FORMATS",
    "ExportForm",
    "Exported",
    "How",
    "Template",
    "export_separation",
]

"""Stems of a library under names that people read, in the formats that they want."""

from tasks.export.encoding import FORMATS
from tasks.export.exporting import Exported, ExportForm, How, export_separation
from tasks.export.naming import DEFAULT_OF_ONE_FILE, DEFAULT_TEMPLATE, Template

__all__ = [
    "DEFAULT_OF_ONE_FILE",
    "DEFAULT_TEMPLATE",
    "FORMATS",
    "ExportForm",
    "Exported",
    "How",
    "Template",
    "export_separation",
]

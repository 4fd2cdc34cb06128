"""The field's data formats: importers write stream folders from published archives, exporters write archives.

An importer is a function of a path and its own options that returns a `Draft`; an exporter is a function of a `Network`
and a folder. Code that an archive may hold is never run: arrays are read without pickles, pickles without Python's
unpickler.
"""

from st_pipeline.registry import EXPORTERS as exporters
from st_pipeline.registry import IMPORTERS as importers

__all__ = ["exporters", "importers"]

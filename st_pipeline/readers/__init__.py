"""Raw formats -> readings and sensors, one file per format.

A reader is built with a `SourceContext` and its own options, and has four methods: `files()`, `sensors()`,
`readings(period)` and `edges(period)`; `has_edges` says whether the source gives edges.
"""

from st_pipeline.registry import READERS as readers

__all__ = ["readers"]

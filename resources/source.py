"""The source resource: where raw files are found."""

from __future__ import annotations

import dagster as dg

from st_pipeline.readers import readers
from st_pipeline.readers.base import Reader, SourceContext
from st_pipeline.storage import data_root, home
from st_pipeline.streams import Stream


class SourceResource(dg.ConfigurableResource):
    """Raw files lie in the stream's folder or under `ST_PIPELINE_DATA`; simulated ones are written under the home."""

    def reader(self, stream: Stream) -> Reader:
        """The reader of a stream's raw files."""
        return open_source(stream)


def open_source(stream: Stream) -> Reader:
    """The reader of a stream, with the folders of this process."""
    context = SourceContext(stream.config, stream.folder, data_root(), home() / "simulated")
    reader: Reader = readers.build(stream.config.source.spec(), context=context)
    return reader

"""Figures as metadata: a picture in a dialog of the UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(figure: Figure, text: str = "") -> dg.MarkdownMetadataValue:
    """A figure as markdown with the image inside, and the text below it."""
    from st_pipeline.reporting.images import png_uri

    return dg.MetadataValue.md(f"![figure]({png_uri(figure)})\n\n{text}".strip())

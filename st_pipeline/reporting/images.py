"""Figures as text: PNG for the UI's dialogs, SVG for the report."""

from __future__ import annotations

import base64
import re
from io import BytesIO

import matplotlib
from matplotlib.figure import Figure


def png_uri(figure: Figure) -> str:
    """A `data:` address of the figure as PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def svg_text(figure: Figure, name: str) -> str:
    """The figure as an SVG element, the same for the same figure; `name` keeps its ids apart from other figures'."""
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{name}">', text, count=1
    )

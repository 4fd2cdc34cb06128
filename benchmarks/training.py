"""Training and evaluation at the published size against the plain published form, in one run."""

from __future__ import annotations

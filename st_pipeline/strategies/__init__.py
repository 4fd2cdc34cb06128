"""Strategies: what happens to a model when a period arrives, one file each."""

from st_pipeline.registry import STRATEGIES as strategies

__all__ = ["strategies"]

"""What there is to show of a model's insides: a file for a backbone or another part, by whose name it is called."""

from st_pipeline.registry import VIEWS as views

__all__ = ["views"]

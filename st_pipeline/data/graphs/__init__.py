"""Graph recipes: from positions, given edges or given distances to a weighted sparse adjacency, one file each."""

from st_pipeline.registry import GRAPHS as graph_recipes

__all__ = ["graph_recipes"]

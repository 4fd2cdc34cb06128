"""Statistical baselines: fitted on the training part of each period, one file each."""

from st_pipeline.registry import BASELINES as baselines

__all__ = ["baselines"]

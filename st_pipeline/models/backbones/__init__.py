"""Backbones, one file each; `backbones.build({"name": "stgnn"}, shape=shape)` makes one."""

from st_pipeline.registry import BACKBONES as backbones

__all__ = ["backbones"]

"""Working as in evaluation ends where it began, module by module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from st_pipeline.models.modes import as_in_evaluation


def modes(module: nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_gets_its_own_mode_back_whatever_happens(fails: bool) -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)))
    model[1][0].eval()
    before = modes(model)
    with pytest.raises(ValueError, match="no") if fails else as_in_evaluation(), as_in_evaluation(model, model[1]):
        assert not any(modes(model))
        assert torch.equal(model[0](torch.ones(3, 2)), torch.ones(3, 2))
        if fails:
            raise ValueError("no")
    assert modes(model) == before == [True, True, True, False, True]

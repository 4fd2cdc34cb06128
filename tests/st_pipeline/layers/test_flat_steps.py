"""Steps are laid beside each other and taken apart again."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.layers.flat_steps import flat, flat_width, unflat


@pytest.mark.parametrize(("axes", "shape"), [((5,), (2, 3, 5)), ((4, 5), (2, 4, 3, 5)), ((1, 5), (2, 1, 3, 5))])
def test_features_of_a_node_go_there_and_back(axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    row = flat(x)
    assert row.shape == (2, 3, flat_width(axes))
    assert torch.equal(unflat(row, axes), x)


def test_a_row_has_its_steps_in_order() -> None:
    x = torch.randn(2, 4, 3, 5)
    assert torch.equal(flat(x)[1, 2], torch.cat([x[1, step, 2] for step in range(4)]))

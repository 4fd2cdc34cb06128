"""Numbers for distance and lag: where each is read, where they begin, and what may change them."""

from __future__ import annotations

import torch

from st_pipeline.layers.relative_position import RelativePosition

HEADS, BUCKETS, WINDOW, HORIZON = 2, 5, 4, 3


def make(*, learned: bool = True) -> RelativePosition:
    return RelativePosition(heads=HEADS, buckets=BUCKETS, window=WINDOW, horizon=HORIZON, learned=learned)


def test_a_pair_of_steps_reads_its_lag() -> None:
    layer = make()
    with torch.no_grad():
        layer.bias.normal_()
    table = layer()
    assert table.shape == (BUCKETS, HEADS, HORIZON, WINDOW)
    for head in range(HEADS):
        for bucket in range(BUCKETS):
            for ahead in range(HORIZON):
                for step in range(WINDOW):
                    lag = (WINDOW + ahead) - step
                    assert table[bucket, head, ahead, step] == layer.bias[head, bucket, lag - 1]


def test_at_first_it_falls_with_distance_and_lag_from_the_last_step_on() -> None:
    table = make()()
    torch.testing.assert_close(table[0, :, 0, -1], torch.full((HEADS,), -1 / WINDOW))
    torch.testing.assert_close(table[0] - table[-1], torch.full((HEADS, HORIZON, WINDOW), 4.0))
    assert (table.diff(dim=0) < 0).all()
    assert (table.diff(dim=2) < 0).all()
    assert (table.diff(dim=3) > 0).all()


def test_fixed_positions_are_no_parameters_and_are_stored() -> None:
    learned, fixed = make(), make(learned=False)
    assert torch.equal(learned(), fixed())
    assert not list(fixed.parameters())
    assert fixed.state_dict().keys() == learned.state_dict().keys() == {"bias"}


def test_every_lag_learns_from_the_pairs_that_have_it() -> None:
    layer = make()
    layer()[1].sum().backward()
    assert layer.bias.grad is not None
    assert layer.bias.grad[:, 1].tolist() == [[1, 2, 3, 3, 2, 1]] * HEADS
    assert not layer.bias.grad[:, [0, 2, 3, 4]].any()

"""What is told of a ReLearner's sensors is what its parts hold and do."""

from __future__ import annotations

import pytest
import torch
from polars.testing import assert_frame_equal

from st_pipeline.errors import InputError
from st_pipeline.evaluation.relearner_analysis import residuals, sensor_table
from st_pipeline.models.backbones import backbones
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.models.relearner import ReLearner
from st_pipeline.types import NodeSet, SeriesShape, Window

NODES = 5
SHAPE = SeriesShape(window=6, horizon=4, channels=1, num_nodes=NODES, steps_per_day=24)


def build(backbone: str = "stgnn", **options: object) -> ReLearner:
    torch.manual_seed(0)
    return ReLearner(PromptPool(backbones.build(backbone, shape=SHAPE), rank=2), **options)


@pytest.mark.parametrize("backbone", ["stgnn", "dcrnn"])
def test_residuals_are_those_of_the_second_pass_before_and_after_smoothing(
    random_window, random_graph, backbone: str
) -> None:
    model, window, graph = build(backbone, layers=2).train(), random_window(SHAPE), random_graph(NODES)
    before, after = residuals(model, window, graph)
    assert all(part.training for part in model.modules())
    assert not after.requires_grad
    smoothed = model.correction.smoothing(before, graph)
    torch.testing.assert_close(after, smoothed, rtol=1e-4, atol=1e-5)
    assert before.shape[:2] == (3, NODES)


def test_a_row_says_the_gates_of_its_sensor_and_how_large_its_residual_is(random_window, random_graph) -> None:
    model, window, graph = build(kernels=("adaptive", "reversed")), random_window(SHAPE), random_graph(NODES)
    nodes = NodeSet.of("vwxyz")
    model.expand(nodes)
    table = sensor_table(model, [window], graph, nodes)
    assert table.columns == ["sensor_id", "beta", "alpha_adaptive", "alpha_reversed", "before", "after"]
    alpha, beta = model.correction.smoothing.gates()
    before, after = residuals(model, window, graph)
    for place, row in enumerate(table.iter_rows(named=True)):
        assert row["sensor_id"] == "vwxyz"[place]
        assert row["beta"] == pytest.approx(float(beta[place]))
        assert row["alpha_reversed"] == pytest.approx(float(alpha["reversed"][place]))
        for name, values in (("before", before), ("after", after)):
            assert row[name] == pytest.approx(float(values[:, place].square().mean().sqrt()))


def test_windows_count_alike_however_they_come(random_window, random_graph) -> None:
    model, window, graph, nodes = build(), random_window(SHAPE), random_graph(NODES), NodeSet.of("vwxyz")
    parts = [Window(*(part[rows] for part in window)) for rows in (slice(0, 1), slice(1, 3))]
    together, apart = (sensor_table(model, windows, graph, nodes) for windows in ([window], parts))
    assert_frame_equal(apart, together, rel_tol=1e-5)


def test_without_smoothing_there_are_no_gates(random_window, random_graph) -> None:
    table = sensor_table(build(layers=0), [random_window(SHAPE)], random_graph(NODES), NodeSet.of("vwxyz"))
    assert table.columns == ["sensor_id", "before", "after"]
    assert table["before"].to_list() == table["after"].to_list()


def test_a_model_that_corrects_nothing_is_refused(random_window, random_graph) -> None:
    with pytest.raises(InputError, match=r"this model corrects nothing; give it a `relearner: \{\}`"):
        residuals(backbones.build("stgnn", shape=SHAPE), random_window(SHAPE), random_graph(NODES))

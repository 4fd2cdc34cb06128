"""Scoring a test part, the period matrix and the naive forecasts at the published size."""

from __future__ import annotations

from benchmarks.data import PEMS_NODES, PEMS_STEPS
from benchmarks.figures import Figure, Result, best, seconds, told, use_threads
from benchmarks.plain import Samples, test
from benchmarks.setting import Setting
from benchmarks.training import epoch
from st_pipeline.data.protocols import Part
from st_pipeline.evaluation.metrics import Tally, error_sums
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.training.forecasts import sum_over_forecasts
from st_pipeline.training.pieces import workers

PERIODS = 7


def scores(model: PromptPool, setting: Setting, part: Part) -> dict[tuple[str, str], float]:
    """All metrics at and up to every step, as the product scores."""
    with workers(part.starts.device, 2) as team:
        return Tally.of_part(part, sum_over_forecasts(model, part, setting.graph, error_sums, workers=team)).scores()


def run(num_nodes: int = PEMS_NODES[2017], num_steps: int = PEMS_STEPS, repeats: int = 3) -> Result:
    use_threads()
    setting = Setting.of(num_nodes, num_steps)
    part, model = setting.parts["test"], setting.model(frozen=True)
    result = Result(f"Evaluation, N = {num_nodes}, {len(part.starts)} windows")
    told("evaluation of a test part")
    ours, usual = best(lambda: scores(model, setting, part), repeats)
    samples, found = Samples(setting.readings, setting.cuts.test), {}
    plain, size = setting.plain(model, frozen=True), setting.settings.batch
    theirs = seconds(lambda: found.update(test(plain, setting.adjacency, samples, size)))
    mine = scores(model, setting, part)
    average = sum(found["mae"]) / len(found["mae"])
    apart = abs(mine["mae", "published_average"] / average - 1)
    spent = f"{theirs:.1f} s for 3 metrics against {usual:.2f} s for 5, at and up to every step (least {ours:.2f} s)"
    result.figures.append(
        Figure(
            "a test part with all metrics, against the plain form",
            theirs / usual,
            "times faster",
            at_least=15,
            detail=f"{spent}; published average apart by {apart:.0e}",
        )
    )
    told("rows of the period matrix")
    cell = best(lambda: scores(model, setting, part), PERIODS)[1]
    for frozen, what in ((False, "everything trainable"), (True, "backbone frozen")):
        training = best(lambda frozen=frozen: epoch(setting, setting.model(frozen=frozen)), repeats)[1]
        usual_row, longest = (cells * cell / training for cells in ((PERIODS + 1) / 2, PERIODS))
        result.figures.append(
            Figure(
                f"mean row of the matrix of {PERIODS} periods, in training epochs ({what})",
                usual_row,
                "epochs",
                at_most=1,
                detail=f"{cell:.2f} s a cell, {training:.2f} s an epoch; the last and longest row {longest:.2f} epochs",
            )
        )
    return result


if __name__ == "__main__":
    print(run().to_json())

"""Studies: a model beside its variants, on request."""

from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded, frame_metadata, table
from assets.pictures import picture
from resources.failures import user_errors
from resources.lake import AVAILABLE
from st_pipeline.storage import FRAME
from st_pipeline.study_config import StudyConfig

KINDS = ("evaluation", "diagnostics")


def study_asset(of: StreamAssets, study: StudyConfig) -> dg.AssetsDefinition:
    """`study/<name>`: errors and costs of the study's models."""
    config = of.stream.config
    names = [study.of, *(model.name for model in config.studied[study.name].values())]
    section = [study.model_dump(mode="json"), of.config("horizon", "split")]

    @dg.multi_asset(
        name=of.op("study", study.name, "study"),  # no stream has an asset called like the last of these
        outs={
            "study": dg.AssetOut(
                key=of.key("study", study.name),
                io_manager_key="frames",
                description=f"Error and cost of {study.of} by {study.key}.",
                kinds={"polars", "parquet"},
                **of.common("study", section, group=of.on_request),
            )
        },
        ins={f"{name}_{kind}": dg.AssetIn(of.key(name, kind), metadata=AVAILABLE) for name in names for kind in KINDS},
    )
    def compute_study(**inputs: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.studies import study_errors, study_table
        from st_pipeline.reporting.study_plots import study_cost_plot, study_plot

        with user_errors():
            errors = study_errors(config, study, {name: inputs[f"{name}_evaluation"] for name in names})
            found = study_table(config, study, errors, {name: inputs[f"{name}_diagnostics"] for name in names})
        pictures = {"error": picture(study_plot(found, errors)), "cost": picture(study_cost_plot(found))}
        return encoded(
            found, FRAME, {**frame_metadata(found), "table": table(found, rows=100), **pictures}, name="study"
        )

    return compute_study

"""`champion`: which model serves, with everything done since; materialised with an action it performs it."""

from typing import Any

import dagster as dg
from pydantic import Field

from assets.common import StreamAssets
from resources.failures import user_errors
from st_pipeline.storage import JSON, digest, lake


class ChampionAction(dg.Config):
    """What to do; without an action the state is stored as it is."""

    action: str = Field("", description="promote, rollback, shadow, unshadow, freeze or unfreeze")
    model: str = Field("", description="for promote, shadow and unshadow")
    by: str = Field("", description="who asks for it")
    reason: str = ""
    force: bool = Field(False, description="promote whatever the evidence says; needs a reason")
    require_drill: bool = Field(False, description="promote only with a robustness drill that is passed")


def champion_asset(of: StreamAssets) -> dg.AssetsDefinition:
    """`champion`: the document is read and written under a lock, so nothing is handed to the IO manager."""
    stream = of.stream.config

    @dg.asset(
        key=of.key("champion"),
        io_manager_key="documents",
        kinds={"json"},
        description="The model that serves, its shadows, whether learning is stopped, and the history of all that.",
        **of.common("champion", of.config("champion", "challengers")),
    )
    def champion(context: dg.AssetExecutionContext, config: ChampionAction) -> dg.MaterializeResult[None]:
        from st_pipeline.forecasting.promotion import Request, act

        run = context.run.root_run_id or context.run.run_id
        with user_errors():
            state, payload = act(stream, Request(**config.model_dump(), run=run))
        said: dict[str, Any] = {
            "champion": state.champion or "none",
            "shadows": ", ".join(state.shadows) or "none",
            "frozen": state.frozen,
            "actions": len(state.history),
            **({"note": state.note} if state.note else {}),
        }
        path = lake().path((of.name, "champion"), None, JSON.extension)
        shown = {"history": dg.MetadataValue.md(_history(state)), "path": dg.MetadataValue.path(str(path))}
        return dg.MaterializeResult(metadata={**said, **shown}, data_version=dg.DataVersion(digest(payload)))

    return champion


def _history(state: Any) -> str:
    """The actions as a table, newest first."""
    from st_pipeline.reporting.markdown import grid

    columns = {"when": "when", "action": "action", "model": "model", "before": "served before"}
    columns |= {"by": "by", "reason": "reason", "evidence": "evidence"}
    return grid((event.row() for event in reversed(state.history)), columns) if state.history else "none"

"""All assets of a stream, its job and its schedule; and the assets that show broken streams."""

from collections.abc import Iterable

import dagster as dg

from assets.advice import advice_asset
from assets.analyses import drill_asset, insight_asset, prompt_analysis_asset
from assets.champion import champion_asset
from assets.common import StreamAssets
from assets.evaluations import baseline_asset, evaluation_asset, naive_asset
from assets.forecasts import forecast_assets
from assets.models import model_asset
from assets.network import network_assets
from assets.raw import raw_assets
from assets.results import result_assets
from assets.studies import study_asset
from st_pipeline.streams import Stream, StreamFault, load_streams

BROKEN = "broken_streams"


def assets_or_fault(stream: Stream) -> list[dg.AssetsDefinition] | StreamFault:
    """Every asset of one stream, or what Dagster has against it although its file is valid."""
    try:
        return stream_assets(stream)
    except (ValueError, dg.DagsterError) as error:
        return StreamFault(stream.name, stream.folder / "stream.yaml", " ".join(str(error).split()))


def stream_assets(stream: Stream) -> list[dg.AssetsDefinition]:
    """Every asset of one stream."""
    of = StreamAssets(stream)
    models = stream.config.every_model
    return [
        *raw_assets(of),
        *network_assets(of),
        *([advice_asset(of)] if models else []),
        *(model_asset(of, model) for model in models),
        *(evaluation_asset(of, model) for model in models),
        *(prompt_analysis_asset(of, model) for model in models if model.prompt_pool),
        *(drill_asset(of, model) for model in models),
        *(insight_asset(of, model) for model in models if model.views),
        naive_asset(of),
        *(baseline_asset(of, baseline) for baseline in stream.config.baselines),
        *forecast_assets(of),
        *result_assets(of),
        champion_asset(of),
        *(study_asset(of, study) for study in stream.config.studies),
    ]


def fault_assets(faults: Iterable[StreamFault]) -> list[dg.AssetsDefinition]:
    """One asset a fault, under names that Dagster takes and that differ."""
    made: dict[str, dg.AssetsDefinition] = {}
    for fault in faults:
        name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in fault.name)
        while name in made:
            name += "_"
        made[name] = _fault_asset(fault, name)
    return list(made.values())


def _fault_asset(fault: StreamFault, name: str) -> dg.AssetsDefinition:
    """A broken stream file, visible in the UI: its description says what is wrong, materialising it checks again."""

    @dg.asset(
        key=[BROKEN, name],
        group_name=BROKEN,
        kinds={"yaml"},
        tags={"broken": "true"},
        description=f"This stream is not loaded. {fault.message}",
    )
    def broken() -> dg.MaterializeResult[None]:
        streams, faults = load_streams()
        mine = [assets_or_fault(stream) for stream in streams if stream.folder == fault.file.parent]
        for found in (*faults, *mine):
            if isinstance(found, StreamFault) and found.file == fault.file:
                raise dg.Failure(description=found.message, allow_retries=False)
        return dg.MaterializeResult(metadata={"state": "the file is valid now; reload the code location"})

    return broken

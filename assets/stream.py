"""All assets of a stream, its job and its schedule; and the assets that show broken streams."""

import dagster as dg

from assets.common import StreamAssets
from assets.evaluations import evaluation_asset, naive_asset
from assets.models import model_asset
from assets.network import network_assets
from assets.raw import raw_assets
from assets.results import result_assets
from st_pipeline.errors import InputError
from st_pipeline.streams import Stream, StreamFault, load_stream

BROKEN = "broken_streams"


def stream_assets(stream: Stream) -> list[dg.AssetsDefinition]:
    """Every asset of one stream."""
    of = StreamAssets(stream)
    models = stream.config.models
    return [
        *raw_assets(of),
        *network_assets(of),
        *(model_asset(of, model) for model in models),
        *(evaluation_asset(of, model) for model in models),
        naive_asset(of),
        *result_assets(of),
    ]


def fault_asset(fault: StreamFault) -> dg.AssetsDefinition:
    """A broken stream file, visible in the UI: its description says what is wrong, materialising it checks again."""
    name = "".join(letter if letter.isalnum() else "_" for letter in fault.name)

    @dg.asset(
        key=[BROKEN, name],
        group_name=BROKEN,
        kinds={"yaml"},
        tags={"broken": "true"},
        description=f"This stream is not loaded. {fault.message}",
    )
    def broken() -> dg.MaterializeResult[None]:
        try:
            load_stream(fault.file.parent)
        except InputError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from None
        return dg.MaterializeResult(metadata={"state": "the file is valid now; reload the code location"})

    return broken

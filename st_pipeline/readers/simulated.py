"""The simulated road network as raw files: written once from the seed, then read like any other source."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

from st_pipeline.errors import InputError
from st_pipeline.readers.base import SourceContext
from st_pipeline.readers.parts.long_table import LongTableReader, TableStyle
from st_pipeline.registry import READERS
from st_pipeline.simulation import Scenario, write_stream
from st_pipeline.storage import digest_of


@READERS.register
class SimulatedReader(LongTableReader):
    """Periods, their length and the step are those of the stream; the rest of the scenario are options."""

    def __init__(
        self,
        context: SourceContext,
        *,
        seed: int = 7,
        sensors: int = 60,
        growth: int = 6,
        demand_growth: float = 0.02,
        incidents_per_day: float = 2.0,
    ) -> None:
        self.scenario = _scenario(
            context,
            seed=seed,
            sensors=sensors,
            growth=growth,
            demand_growth=demand_growth,
            incidents_per_day=incidents_per_day,
        )
        folder = f"{context.config.name}-{digest_of(asdict(self.scenario))[:12]}"
        super().__init__(
            replace(context, folder=context.scratch, data=context.scratch),
            readings=f"{folder}/readings/*.parquet",
            sensors=f"{folder}/sensors.csv",
            edges=f"{folder}/edges.csv",
            style=TableStyle(),
        )
        self.raw = context.scratch / folder

    def files(self) -> list[Path]:
        self._write()
        return super().files()

    def _files(self, field: str) -> list[Path]:
        self._write()
        return super()._files(field)

    def _write(self) -> None:
        try:
            write_stream(self.scenario, self.raw)
        except OSError as error:
            raise InputError(f"{self.raw}: the simulated stream cannot be written: {error.strerror or error}") from None
        except ValueError as error:
            raise InputError(str(error)) from None


def _scenario(context: SourceContext, **options: float) -> Scenario:
    config = context.config
    days = config.calendar.cadence.days
    if not days:
        raise InputError(
            f"stream {config.name!r}: periods.every is {config.periods.every!r}; "
            "a simulated stream needs days, e.g. 28d"
        )
    try:
        return Scenario(
            start=config.periods.start,
            periods=max(1, len(config.calendar.periods())),
            days=days,
            step_minutes=config.step // timedelta(minutes=1),
            **options,  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise InputError(f"stream {config.name!r}: source: {error}") from None

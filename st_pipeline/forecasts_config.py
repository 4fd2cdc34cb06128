"""What a stream file says of the forecasts that are issued."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from st_pipeline.fields import Duration, Part

HOUR = timedelta(hours=1)


class ForecastsConfig(Part):
    """When forecasts are issued, counted from the start of each period."""

    every: Duration | None = Field(None, description="a multiple of the step; an hour, or the step if that is longer")

    def issue_every(self, step: timedelta) -> timedelta:
        """Time between two issues of a stream with this step."""
        return self.every or step * -(-max(HOUR, step) // step)

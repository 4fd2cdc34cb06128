"""Settings are the protocol's, with the model's own in their place."""

from __future__ import annotations

import pytest

from st_pipeline.data.protocols import PROTOCOLS, Protocol
from st_pipeline.model_config import TrainingConfig
from st_pipeline.training.settings import Settings


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_model_trains_on_the_whole_training_part_unless_it_says_otherwise(protocol: Protocol) -> None:
    assert Settings.of(protocol, TrainingConfig()).share is None
    assert Settings.of(protocol, TrainingConfig(share=0.2)).share == 0.2


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_share_changes_no_other_setting(protocol: Protocol) -> None:
    few, whole = (vars(Settings.of(protocol, TrainingConfig(share=share))) for share in (0.2, None))
    assert {name for name in few if few[name] != whole[name]} == {"share"}

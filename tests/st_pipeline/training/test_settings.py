"""Settings are the protocol's, with the model's own in their place."""

from __future__ import annotations

import pytest

from st_pipeline.data.protocols import PROTOCOLS, Protocol
from st_pipeline.model_config import LaterConfig, TrainingConfig
from st_pipeline.training.settings import Settings


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_model_trains_on_the_whole_training_part_unless_it_says_otherwise(protocol: Protocol) -> None:
    assert Settings.of(protocol, TrainingConfig()).share is None
    assert Settings.of(protocol, TrainingConfig(share=0.2)).share == 0.2


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_share_changes_no_other_setting(protocol: Protocol) -> None:
    few, whole = (vars(Settings.of(protocol, TrainingConfig(share=share))) for share in (0.2, None))
    assert {name for name in few if few[name] != whole[name]} == {"share"}


LATER = LaterConfig(epochs=2, learning_rate=0.005, weight_decay=0.0, patience=0, stride=4, decay="cosine")


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_periods_after_the_first_may_have_settings_of_their_own(protocol: Protocol) -> None:
    training = TrainingConfig(epochs=9, learning_rate=0.1, batch=32, share=0.2, later=LATER)
    first, second, tenth = (Settings.of(protocol, training, index=index) for index in (0, 1, 9))
    alone = TrainingConfig(epochs=9, learning_rate=0.1, batch=32, share=0.2)
    assert first == Settings.of(protocol, alone) == Settings.of(protocol, alone, index=3)
    assert second == tenth
    later = {name: value for name, value in vars(second).items() if value != getattr(first, name)}
    assert later.items() <= LATER.model_dump(exclude_none=True).items()
    assert all(getattr(second, name) == value for name, value in LATER.model_dump(exclude_none=True).items())
    assert (second.batch, second.share, second.loss) == (32, 0.2, first.loss)


def test_what_later_leaves_out_stays_as_it_is() -> None:
    training = TrainingConfig(epochs=9, patience=3, later=LaterConfig(epochs=2))
    second = Settings.of(PROTOCOLS["sound"], training, index=1)
    assert (second.epochs, second.patience) == (2, 3)
    assert second.learning_rate == PROTOCOLS["sound"].learning_rate

"""Each protocol does to a period what it is named for: `sound` learns from training data alone, `paper` is the code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.protocols import PAPER, PROTOCOLS, SOUND, Part, PeriodArrays, Protocol
from st_pipeline.data.quality import FLAGS, MISSING, OBSERVED, SENTINEL, STUCK
from st_pipeline.data.tensors import TENSOR, SeriesTensor
from st_pipeline.data_config import SplitConfig
from st_pipeline.errors import InputError
from st_pipeline.model_config import ScalingConfig
from st_pipeline.types import NodeSet

LENGTH, NODES, WINDOW, HORIZON = 150, 3, 12, 12


def series(
    *, seed: int = 0, channels: int = 1, length: int = LENGTH, flags: tuple[int, ...] = (OBSERVED,)
) -> SeriesTensor:
    """Readings with flags drawn from `flags`; what was not landed is 0, as in a built tensor."""
    random = np.random.default_rng(seed)
    drawn = random.choice(np.array(flags, dtype=np.uint8), size=(length, NODES, channels))
    values = random.gamma(2.0, 50.0, size=drawn.shape).astype(np.float32)
    values[(drawn == MISSING) | (drawn == SENTINEL)] = 0
    variables = tuple(f"v{channel}" for channel in range(channels))
    times = 1_351_700_000 // 3600 * 3600 + 3600 * np.arange(length, dtype=np.int64)
    return SeriesTensor("2012-07", tuple("abc"), variables, "Australia/Melbourne", values, drawn, times)


@pytest.fixture
def arrays(make_stream) -> Callable[..., PeriodArrays]:
    def make(tensor: SeriesTensor, protocol: Protocol, **options) -> PeriodArrays:
        stream = make_stream(window=WINDOW, horizon=HORIZON)
        return PeriodArrays.of(tensor, NodeSet.of(tensor.sensor_ids), stream, protocol=protocol, **options)

    return make


def part_of(made: PeriodArrays, name: str, scaling: ScalingConfig | None = None) -> Part:
    return made.part(name, made.fit_scaler(scaling or ScalingConfig()))


def generate(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (S, 12, N) and targets of one split as EAC's data generator makes them, newest first."""
    last = len(values) - 1
    ends = range(last, 23, -1)
    x = np.stack([values[end - 24 : end - 12] for end in ends]).astype(np.float64)
    y = np.stack([values[end - 12 : end] for end in ends])
    return (x - x.mean()) / x.std(), y


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_paper_windows_are_those_of_the_public_code(arrays, name: str) -> None:
    tensor = series(flags=(OBSERVED, OBSERVED, OBSERVED, MISSING, STUCK))
    cut = {"train": (0, int(0.6 * LENGTH)), "validation": (int(0.6 * LENGTH), int(0.8 * LENGTH))}
    first, stop = cut.get(name, (int(0.8 * LENGTH), LENGTH))
    x, y = generate(tensor.values[first:stop, :, 0])
    part = part_of(arrays(tensor, PAPER), name)
    window, target = part.windows.gather(part.starts.flip(0))
    assert len(part.starts) == stop - first - 24
    np.testing.assert_allclose(window.values[..., 0], x, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(target.values, y)
    assert target.observed.all()
    assert window.observed.all()
    assert part.restore(target.values) is target.values


def test_paper_reads_missing_as_zero_and_bad_readings_as_they_are(arrays) -> None:
    tensor = series(flags=tuple(range(len(FLAGS))))
    made = arrays(tensor, PAPER)
    flags = tensor.flags[..., 0]
    landed = (flags != MISSING) & (flags != SENTINEL)
    np.testing.assert_array_equal(made.values[..., 0], np.where(landed, tensor.values[..., 0], 0))
    np.testing.assert_array_equal(made.scored, landed)
    assert made.usable.all()


def test_sound_sees_and_scores_good_readings_alone(arrays) -> None:
    tensor = series(flags=tuple(range(len(FLAGS))), channels=2)
    made = arrays(tensor, SOUND)
    np.testing.assert_array_equal(made.usable, tensor.flags == OBSERVED)
    np.testing.assert_array_equal(made.values, np.where(tensor.flags == OBSERVED, tensor.values, 0))
    np.testing.assert_array_equal(made.scored, tensor.flags[..., 0] == OBSERVED)
    part = part_of(made, "train")
    assert not part.windows.values[~part.windows.observed].any()
    assert torch.equal(part.windows.target_observed, made.scored[: made.cuts.train.stop])


@given(st.integers(0, 2**32 - 1), st.sampled_from(["network", "sensor"]), st.floats(-1e6, 1e6))
def test_sound_training_knows_nothing_of_later_parts(make_stream, seed: int, per: str, absurd: float) -> None:
    stream = make_stream(window=WINDOW, horizon=HORIZON)
    tensor = series(flags=(OBSERVED, OBSERVED, MISSING), channels=2)
    random = np.random.default_rng(seed)
    values, flags, cut = tensor.values.copy(), tensor.flags.copy(), int(0.6 * LENGTH)
    values[cut:] = absurd * random.random(values[cut:].shape)
    flags[cut:] = random.integers(0, len(FLAGS), flags[cut:].shape)
    parts = []
    for given_tensor in (tensor, replace(tensor, values=values, flags=flags)):
        made = PeriodArrays.of(given_tensor, NodeSet.of("abc"), stream, protocol=SOUND, lags=(24,))
        parts.append(part_of(made, "train", ScalingConfig(per=per)))
    one, other = parts
    assert torch.equal(one.scaler.mean, other.scaler.mean)
    assert torch.equal(one.scaler.scale, other.scaler.scale)
    for before, after in zip(one.windows.gather(one.starts), other.windows.gather(other.starts), strict=True):
        assert all(torch.equal(mine, yours) for mine, yours in zip(before, after, strict=True))


def test_sound_uses_the_statistics_of_the_training_part_everywhere(arrays) -> None:
    made = arrays(series(), SOUND)
    scaler = made.fit_scaler(ScalingConfig())
    train, *others = (made.part(name, scaler) for name in ("train", "validation", "test"))
    for part in others:
        own = made.values[part.offset : part.offset + len(part.truth)]
        assert torch.equal(part.windows.values, train.scaler.standardise(own))
    known = made.values[: int(0.6 * LENGTH), :, 0]
    torch.testing.assert_close(train.scaler.mean[:, 0], known.mean(0))
    torch.testing.assert_close(train.scaler.scale[:, 0], known.std(0, correction=0))


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_perfect_forecast_is_restored_to_the_truth(arrays, protocol: Protocol, name: str) -> None:
    part = part_of(arrays(series(flags=(OBSERVED, OBSERVED, MISSING)), protocol), name)
    _, target = part.windows.gather(part.starts)
    future = part.starts[:, None] + torch.arange(WINDOW, WINDOW + HORIZON)
    scored = part.scored[future]
    torch.testing.assert_close(part.restore(target.values)[scored], part.truth[future][scored], rtol=1e-4, atol=1e-2)
    assert (scored <= target.observed).all()


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_windows_stay_inside_their_part(arrays, protocol: Protocol) -> None:
    made = arrays(series(), protocol)
    for name in ("train", "validation", "test"):
        steps, part = getattr(made.cuts, name), part_of(made, name)
        used = part.offset + part.starts[:, None] + torch.arange(WINDOW + HORIZON)
        assert used.min() == steps.start
        assert used.max() == steps.stop - 1 - protocol.drop_last_window


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_share_shortens_what_is_learned_from_and_nothing_else(arrays, protocol: Protocol) -> None:
    whole, few = arrays(series(), protocol), arrays(series(), protocol, share=0.4)
    steps = int(0.4 * LENGTH)
    assert few.cuts == (range(steps), *whole.cuts[1:])
    scaler = few.fit_scaler(ScalingConfig(per="sensor"))
    torch.testing.assert_close(scaler.mean[:, 0], few.values[:steps, :, 0].mean(0))
    torch.testing.assert_close(scaler.scale[:, 0], few.values[:steps, :, 0].std(0, correction=0))
    train = few.part("train", scaler)
    assert len(train.truth) == len(train.windows.values) == steps
    used = train.starts[:, None] + torch.arange(WINDOW + HORIZON)
    assert used.min() == 0
    assert used.max() == steps - 1 - protocol.drop_last_window
    for name in ("validation", "test"):
        assert torch.equal(few.part(name, scaler).windows.values, whole.part(name, scaler).windows.values)
        assert torch.equal(few.part(name, scaler).starts, whole.part(name, scaler).starts)


def test_a_sensor_without_statistics_needs_less_than_two_days_of_training(arrays) -> None:
    tensor = series()
    tensor.flags[: 90 - 47, 0] = MISSING
    tensor.flags[: 90 - 48, 1] = MISSING
    assert arrays(tensor, SOUND).fit_scaler(ScalingConfig()).unsure == {"a"}


def test_time_features_are_those_of_the_local_clock(arrays) -> None:
    start = int(datetime(2012, 10, 6, 12, tzinfo=UTC).timestamp())  # the clock goes forward within the day
    tensor = replace(series(), times=start + 3600 * np.arange(LENGTH, dtype=np.int64))
    made = arrays(tensor, SOUND)
    local = [datetime.fromtimestamp(second, ZoneInfo("Australia/Melbourne")) for second in tensor.times.tolist()]
    assert made.time_of_day.tolist() == [moment.hour for moment in local]
    assert made.day_of_week.tolist() == [moment.weekday() for moment in local]


@pytest.mark.parametrize("name", ["train", "validation", "test"])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_part_too_short_for_a_window_is_told(make_stream, protocol: Protocol, name: str) -> None:
    rest = [part for part in ("train", "validation", "test") if part != name]
    shares = SplitConfig.model_validate({name: 0.1, rest[0]: 0.4, rest[1]: 0.5})
    stream = make_stream(window=WINDOW, horizon=HORIZON, split=shares.model_dump())
    made = PeriodArrays.of(series(), NodeSet.of("abc"), stream, protocol=protocol)
    with pytest.raises(InputError, match=rf"2012-07: its {name} part has 1[45] steps, but one window needs 24"):
        part_of(made, name)
    assert len(part_of(made, rest[0]).starts)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_a_part_without_a_single_target_is_told(arrays, protocol: Protocol) -> None:
    tensor = series(channels=2)
    tensor.flags[90 + WINDOW : 120, :, 0] = MISSING
    made = arrays(tensor, protocol)
    made.require_targets("train")
    with pytest.raises(InputError, match="2012-07: no reading of the target is usable in its validation part"):
        made.require_targets("validation")


def test_a_stored_tensor_makes_the_same_arrays_without_a_warning(arrays, recwarn: pytest.WarningsRecorder) -> None:
    tensor = series(flags=(OBSERVED, MISSING))
    one, other = (arrays(given_tensor, SOUND) for given_tensor in (tensor, TENSOR.load(TENSOR.dump(tensor))))
    for name in ("values", "usable", "truth", "scored", "time_of_day", "day_of_week"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert not recwarn.list

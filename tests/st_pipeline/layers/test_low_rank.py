"""Increments are sums of products, new ones are nothing, and what is stored says how many there are."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers.low_rank import AdaptedLinear, Adapters

SIZES = {"wide/weight": (3, 7), "hidden": (5, 5)}


def trained(periods: int, *, rank: int = 2, seed: int = 0, sizes: dict[str, tuple[int, int]] = SIZES) -> Adapters:
    """Adapters that are something."""
    adapters = Adapters(sizes, rank=rank, scale=0.5)
    random = torch.Generator().manual_seed(seed)
    for _ in range(periods):
        adapters.append()
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return adapters


def increment(adapters: Adapters, name: str) -> Tensor:
    """s * sum A B (inputs, outputs), one period after the other."""
    return 0.5 * sum(period[name].down @ period[name].up for period in adapters.periods)


@pytest.mark.parametrize("periods", [1, 2, 4])
def test_a_weight_is_increased_by_the_sum_of_all_periods(periods: int) -> None:
    adapters, weight = trained(periods), torch.randn(7, 3)
    expected = weight + increment(adapters, "wide/weight").T
    torch.testing.assert_close(adapters.increased(weight, name="wide/weight"), expected)


@pytest.mark.parametrize("periods", [1, 2, 4])
def test_a_map_folded_into_the_next_weight_is_the_map_followed_by_it(periods: int) -> None:
    adapters, weight, x = trained(periods), torch.randn(4, 5), torch.randn(6, 2, 5)
    expected = (x + x @ increment(adapters, "hidden")) @ weight.T
    torch.testing.assert_close(x @ adapters.before(weight, name="hidden").T, expected)


@pytest.mark.parametrize("earlier", [0, 3])
def test_a_new_adapter_changes_no_bit(earlier: int) -> None:
    adapters, wide, square = trained(earlier), torch.randn(7, 3), torch.randn(4, 5)
    before = adapters.increased(wide, name="wide/weight"), adapters.before(square, name="hidden")
    adapters.append()
    assert len(adapters) == earlier + 1
    torch.testing.assert_close(adapters.increased(wide, name="wide/weight"), before[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(adapters.before(square, name="hidden"), before[1], rtol=0, atol=1e-6)
    if not earlier:
        assert torch.equal(adapters.increased(wide, name="wide/weight"), wide)
        assert torch.equal(adapters.before(square, name="hidden"), square)


def test_only_the_newest_adapter_is_trained() -> None:
    adapters = trained(2)
    before = [parameter.clone() for parameter in adapters.parameters()]
    adapters.append()
    *older, newest = adapters.periods
    assert not any(parameter.requires_grad for period in older for parameter in period.parameters())
    assert all(parameter.requires_grad for parameter in newest.parameters())
    kept = [parameter for period in older for parameter in period.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, kept, strict=True))


def test_a_new_adapter_learns_through_its_second_factor_first() -> None:
    adapters = Adapters(SIZES, rank=2, scale=0.5)
    adapters.append()
    adapters.before(torch.randn(4, 5), name="hidden").square().sum().backward()
    own = adapters.periods[0]["hidden"]
    assert own.up.grad.any()
    assert not own.down.grad.any()
    assert own.down.abs().max() <= (6 / (5 + 2)) ** 0.5  # Xavier's bound


@pytest.mark.parametrize("stored", [0, 1, 3])
@pytest.mark.parametrize("own", [0, 2])
def test_loading_makes_room_for_what_is_stored(stored: int, own: int) -> None:
    saved, adapters = trained(stored, seed=1), trained(own, seed=2)
    adapters.load_state_dict(saved.state_dict())
    assert len(adapters) == stored
    weight = torch.randn(7, 3)
    assert torch.equal(*(one.increased(weight, name="wide/weight") for one in (saved, adapters)))


def test_loading_draws_nothing() -> None:
    saved, adapters = trained(2).state_dict(), trained(0)
    state = torch.get_rng_state()
    adapters.load_state_dict(saved)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("saved", "problem"),
    [
        (trained(1, rank=3), "size mismatch"),
        (trained(1, sizes={"hidden": (5, 5)}), "Missing key"),
        (trained(1, sizes={**SIZES, "more": (1, 1)}), "Unexpected key"),
        ({"periods.1.hidden.down": torch.zeros(5, 2)}, "Missing key"),
    ],
)
def test_adapters_of_another_kind_are_not_loaded(saved: Adapters | dict[str, Tensor], problem: str) -> None:
    state = saved.state_dict() if isinstance(saved, Adapters) else saved
    with pytest.raises(RuntimeError, match=problem):
        trained(1).load_state_dict(state)


def test_an_adapted_layer_reads_its_increased_weight_and_stores_its_own() -> None:
    layer = nn.Linear(3, 7)
    own = {name: value.clone() for name, value in layer.state_dict().items()}
    adapters = trained(2)
    AdaptedLinear.take_over(layer, partial(adapters.increased, name="wide/weight"))
    x = torch.randn(2, 3)
    expected = x @ (own["weight"] + increment(adapters, "wide/weight").T).T + own["bias"]
    torch.testing.assert_close(layer(x), expected)
    assert isinstance(layer, nn.Linear)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert all(torch.equal(value, own[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("bias", [True, False])
def test_an_adapted_layer_is_drawn_anew_as_any_other(bias: bool) -> None:
    plain, layer = nn.Linear(3, 7, bias=bias), nn.Linear(3, 7, bias=bias)
    AdaptedLinear.take_over(layer, partial(trained(1).increased, name="wide/weight"))
    for one in (plain, layer):
        torch.manual_seed(3)
        one.reset_parameters()
    assert plain.state_dict().keys() == layer.state_dict().keys()
    assert all(torch.equal(value, layer.state_dict()[name]) for name, value in plain.state_dict().items())


def test_a_copy_of_a_layer_and_its_adapters_is_their_own() -> None:
    adapters = trained(1)
    model = nn.ModuleDict({"adapters": adapters, "layer": nn.Linear(3, 7)})
    AdaptedLinear.take_over(model["layer"], partial(adapters.increased, name="wide/weight"))
    copy, x = deepcopy(model), torch.randn(2, 3)
    before = model["layer"](x)
    assert torch.equal(copy["layer"](x), before)
    with torch.no_grad():
        for parameter in copy["adapters"].parameters():
            parameter.add_(1)
    assert torch.equal(model["layer"](x), before)
    assert not torch.isclose(copy["layer"](x), before).all()

"""A node table keeps every sensor's row bit for bit, however the network grows, shrinks and turns back."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from st_pipeline.layers.node_table import NodeTable, node_tables, restricted
from st_pipeline.types import NodeSet

NETWORKS = st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), min_size=1, max_size=7)


def rows_of(table: NodeTable) -> dict[str, torch.Tensor]:
    return dict(zip(table.ids, table().detach().clone(), strict=True))


def expanded(*networks: str, width: int = 3, bound: float = 0.1) -> NodeTable:
    torch.manual_seed(0)
    table = NodeTable(len(networks[0]), width, bound=bound)
    for ids in networks:
        table.expand(NodeSet.of(ids))
    return table


@given(NETWORKS)
def test_any_sequence_of_networks_agrees_with_a_dictionary(networks) -> None:
    table, known = NodeTable(len(networks[0]), 3), {}
    for ids in networks:
        before = set(table.ids)
        table.expand(NodeSet.of(ids))
        rows = rows_of(table)
        assert list(rows) == ids
        assert table().shape == (len(ids), 3)
        for name in known.keys() & rows.keys():
            assert torch.equal(rows[name], known[name])
        assert set(table.cold_ids) == known.keys() - set(ids)
        leading = next((i for i, name in enumerate(ids) if name not in before), len(ids))
        assert len(table.retained) == leading
        with torch.no_grad():  # as if trained
            table.retained.add_(1)
            table.appended.mul_(-2)
        known |= rows_of(table)


def test_new_rows_are_uniform_within_the_bound_and_drawn_from_the_seed() -> None:
    torch.manual_seed(3)
    table = NodeTable(0, 50, bound=0.1)
    table.expand(NodeSet.of(f"s{i}" for i in range(200)))
    rows = table().detach()
    assert rows.abs().max() <= 0.1
    assert rows.std() == pytest.approx(0.1 / 3**0.5, rel=0.03)
    torch.manual_seed(3)
    again = NodeTable(0, 50, bound=0.1)
    again.expand(NodeSet.of(table.ids))
    assert torch.equal(rows, again().detach())


def test_the_rows_made_at_construction_are_those_of_the_first_network() -> None:
    table = NodeTable(2, 4)
    made = table().detach().clone()
    table.expand(NodeSet.of("ab"))
    assert torch.equal(table().detach(), made)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_first_network_of_another_size_gets_rows_of_its_own(count: int) -> None:
    table = NodeTable(3, 4)
    table.expand(NodeSet.of("abcde"[:count]))
    assert table().shape == (count, 4)
    assert (table.ids, len(table.cold)) == (tuple("abcde"[:count]), 0)


def test_reordering_moves_rows_and_draws_none() -> None:
    table = expanded("abcd")
    rows = rows_of(table)
    table.expand(NodeSet.of("dbca"))
    assert all(torch.equal(row, rows[name]) for name, row in rows_of(table).items())
    assert (len(table.retained), len(table.appended)) == (4, 0)


def test_a_returning_sensor_finds_its_row_among_the_appended_ones() -> None:
    table = expanded("abc")
    row = rows_of(table)["b"]
    table.expand(NodeSet.of("ac"))
    table.expand(NodeSet.of("acd"))
    assert torch.equal(table.cold, row[None])
    table.expand(NodeSet.of("acdeb"))
    assert torch.equal(rows_of(table)["b"], row)
    assert (len(table.retained), len(table.appended), table.cold_ids) == (3, 2, ())


@pytest.mark.parametrize("frozen", ["retained", "appended"])
def test_retained_and_appended_rows_are_frozen_apart(frozen: str) -> None:
    table = expanded("abc", "abcde")
    before = rows_of(table)
    getattr(table, frozen).requires_grad_(False)
    trained = [parameter for parameter in table.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.5)
    (table() ** 2).sum().backward()
    optimiser.step()
    same = {name for name, row in rows_of(table).items() if torch.equal(row, before[name])}
    assert same == (set("abc") if frozen == "retained" else set("de"))


def test_a_saved_table_is_adopted_with_its_cold_rows() -> None:
    table = expanded("abc", "bcd", "cde")
    saved = {name: value.clone() for name, value in table.state_dict().items()}
    assert set(saved) == {"rows", "cold"}
    other = NodeTable(7, 3)
    other.adopt(table.ids, table.cold_ids)
    other.load_state_dict(saved)
    for one in (table, other):
        one.expand(NodeSet.of("ceab"))
    assert torch.equal(table(), other())
    assert table.cold_ids == other.cold_ids
    assert torch.equal(table.cold, other.cold)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ({"rows": None}, "Missing"),
        ({"cold": None}, "Missing"),
        ({"rows": torch.zeros(1, 3)}, "rows is"),  # one row would broadcast
        ({"rows": torch.zeros(3, 1)}, "rows is"),
        ({"rows": torch.zeros(4, 3)}, "rows is"),
        ({"cold": torch.zeros(2, 3)}, "cold is"),
    ],
)
def test_a_saved_table_of_another_size_is_refused(damage, problem) -> None:
    table = expanded("abcd", "abc")
    before = table().detach().clone()
    saved = {name: value for name, value in {**table.state_dict(), **damage}.items() if value is not None}
    with pytest.raises(RuntimeError, match=problem):
        table.load_state_dict(saved)
    assert torch.equal(table(), before)


def test_reset_draws_every_row_anew_and_forgets_those_kept_aside() -> None:
    table = expanded("abc", "bcd")
    before = rows_of(table)
    table.reset_parameters()
    assert not any(torch.equal(row, before[name]) for name, row in rows_of(table).items())
    assert (table.cold_ids, len(table.cold)) == ((), 0)
    table.expand(NodeSet.of("abcd"))
    assert not torch.equal(rows_of(table)["a"], before.get("a", torch.zeros(3)))


def test_an_expanded_copy_leaves_the_original_alone() -> None:
    table = expanded("abc")
    before = rows_of(table)
    copy.deepcopy(table).expand(NodeSet.of("xy"))
    assert rows_of(table).keys() == before.keys()
    assert all(torch.equal(row, before[name]) for name, row in rows_of(table).items())


def test_tables_are_found_by_their_dotted_name() -> None:
    module = nn.ModuleDict({"one": NodeTable(1, 1), "more": nn.ModuleDict({"two": NodeTable(1, 1)})})
    assert list(node_tables(module)) == ["one", "more.two"]
    assert list(node_tables(module["one"])) == [""]


def test_a_restricted_module_has_the_rows_of_its_nodes_alone() -> None:
    table = NodeTable(5, 3)
    rows = torch.tensor([4, 1])
    with restricted(table, rows):
        assert torch.equal(table(), table.table()[rows])
        table().sum().backward()
    assert table.appended.grad is not None
    assert table.appended.grad.sum(1).tolist() == [0, 3, 0, 0, 3]
    assert torch.equal(table(), table.table())
    with restricted(table, None):
        assert table().shape == (5, 3)
    with pytest.raises(RuntimeError), restricted(table, rows):
        raise RuntimeError
    assert table().shape == (5, 3)


def test_a_restricted_table_is_saved_whole() -> None:
    table = NodeTable(5, 3)
    with restricted(table, torch.tensor([0])):
        assert table.state_dict()["rows"].shape == (5, 3)

"""Records come, leave and return with their sensors, and no training sees them."""

from __future__ import annotations

import torch

from st_pipeline.layers.node_record import NodeRecord
from st_pipeline.layers.node_table import restricted
from st_pipeline.models.base import count_parameters
from st_pipeline.types import NodeSet


def recorded(names: str) -> NodeRecord:
    """Sensor a has the rows 1 1, b has 2 2, and so on."""
    record = NodeRecord(len(names), 2)
    record.expand(NodeSet.of(names))
    record.record(torch.tensor([[ord(name) - 96.0] * 2 for name in names]))
    return record


def test_a_record_is_no_parameter_and_begins_with_nothing() -> None:
    record = NodeRecord(4, 3)
    assert count_parameters(record) == 0
    assert record().shape == (4, 3)
    assert not record().any()
    assert not record().requires_grad


def test_rows_stay_with_their_sensors_and_return_with_them() -> None:
    record = recorded("abc")
    for names, expected in (("acd", [1, 3, 0]), ("abcd", [1, 2, 3, 0])):
        record.expand(NodeSet.of(names))
        assert record()[:, 0].tolist() == expected
    assert count_parameters(record) == 0


def test_what_is_written_lands_in_the_same_buffers() -> None:
    record = recorded("abc")
    record.expand(NodeSet.of("abcd"))
    before = [buffer.data_ptr() for buffer in record.buffers()]
    record.record(torch.full((4, 2), 5.0, requires_grad=True))
    assert [buffer.data_ptr() for buffer in record.buffers()] == before
    assert (record() == 5).all()
    assert not record().requires_grad


def test_of_a_part_of_the_network_only_its_rows_are_written() -> None:
    record = recorded("abcd")
    with restricted(record, torch.tensor([3, 1])):
        record.record(torch.tensor([[9.0, 9.0], [8.0, 8.0]]))
        assert record()[:, 0].tolist() == [9, 8]
    assert record()[:, 0].tolist() == [1, 8, 3, 9]


def test_a_record_is_stored_and_restored() -> None:
    record, other = recorded("abc"), NodeRecord(1, 2)
    record.expand(NodeSet.of("bcd"))
    other.adopt(record.ids, record.cold_ids)
    other.load_state_dict(record.state_dict())
    other.expand(NodeSet.of("abcd"))
    assert other()[:, 0].tolist() == [1, 2, 3, 0]


def test_a_reset_leaves_nothing() -> None:
    record = recorded("abc")
    record.expand(NodeSet.of("bcd"))
    record.reset_parameters()
    record.expand(NodeSet.of("abcd"))
    assert not record().any()

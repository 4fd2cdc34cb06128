"""Sentences of bad input: always one line of bounded length, with the closest known name."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.errors import LONGEST, InputError, closest


@given(st.text(max_size=3 * LONGEST))
def test_a_sentence_is_one_printable_line_of_bounded_length(message: str) -> None:
    sentence = str(InputError(message))
    assert sentence.isprintable()
    assert len(sentence) <= LONGEST


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=200))
def test_a_printable_sentence_is_left_as_it_is(message: str) -> None:
    assert str(InputError(message)) == message


def test_control_characters_are_written_out() -> None:
    assert str(InputError("a\nb\tc\x1b[31m\x00")) == r"a\nb\tc\x1b[31m\x00"


def test_an_error_survives_a_process_boundary() -> None:
    assert str(pickle.loads(pickle.dumps(InputError("x", field="y")))) == "x"  # noqa: S301 (our own bytes)


def test_the_closest_name_is_offered_or_else_the_known_ones() -> None:
    assert closest("readngs", ["readings", "sensors"]) == "did you mean 'readings'?"
    assert closest("zzz", ["b", "a"]) == "known: 'a', 'b'"
    assert closest("zzz", []) == "there are none"
    assert closest("zzz", [f"name{number:02}" for number in range(20)]).endswith("'name11', ...")


def test_a_hint_stays_short_whatever_the_names_are() -> None:
    assert len(closest("q" * 100_000, ["n" * 100_000, "m" * 100_000])) < 200

"""Entry ids: unique, in order of arrival, and fit to be part of a file name and of a UIDL."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.identity import arrival_of, derived_id, is_entry_id, new_entry_id
from tests.model import words

NOW = datetime(2026, 11, 23, 12, 0, 1, 123456, UTC)


@given(words.entry_ids)
def test_an_id_is_an_id_and_so_is_what_is_derived_from_it(entry_id: str) -> None:
    found = new_entry_id(arrival_of(derived_id(new_entry_id(NOW), "report")))
    assert is_entry_id(entry_id)
    assert is_entry_id(derived_id(found, "remote"))


@given(st.integers(min_value=0, max_value=10**9), st.integers(min_value=1, max_value=10**9))
def test_ids_sort_by_arrival(before: int, later: int) -> None:
    first = NOW + timedelta(microseconds=before)
    assert new_entry_id(first) < new_entry_id(first + timedelta(microseconds=later))


def test_the_moment_can_be_read_from_an_id() -> None:
    assert abs(arrival_of(new_entry_id(NOW)) - NOW) < timedelta(microseconds=2)


def test_ids_of_one_moment_differ() -> None:
    assert len({new_entry_id(NOW) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "name", ["", "a", "batch.json", "0hofr9tk9yf-t1ihljpm.retry", "0HOFR9TK9YF-T1IHLJPM", "x" * 20]
)
def test_other_names_are_no_ids(name: str) -> None:
    assert not is_entry_id(name)

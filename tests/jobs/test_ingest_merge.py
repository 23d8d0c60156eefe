"""The law of identity: the last delivered cell wins, whatever else happens."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.ingesting.merge import merge

NAN = float("nan")
cell = st.one_of(st.none(), st.sampled_from([1.0, 2.0, 3.0]))
row = st.tuples(st.integers(0, 2), st.integers(-3, 3), cell, cell)


def merged(rows: list[tuple[int, int, float | None, float | None]]):  # type: ignore[no-untyped-def]
    machine = np.array([r[0] for r in rows], np.int64)
    time = np.array([r[1] for r in rows], np.int64)
    columns = {
        name: np.array([NAN if r[i] is None else r[i] for r in rows], np.float32) for name, i in (("a", 2), ("b", 3))
    }
    return merge(machine, time, columns)


def by_dict(rows: list[tuple[int, int, float | None, float | None]]):  # type: ignore[no-untyped-def]
    """The same law in words a child can check: one cell after the other, and who owns it."""
    values: dict[tuple[int, int], list[float | None]] = {}
    owners: dict[tuple[int, int, int], int] = {}
    for number, (machine, time, *cells) in enumerate(rows):
        held = values.setdefault((machine, time), [None, None])
        for place, value in enumerate(cells):
            if value is not None and value != held[place]:
                held[place] = value
                owners[machine, time, place] = number
    owning = set(owners.values())
    for key, held in values.items():
        if all(value is None for value in held):
            owning.add(next(n for n, r in enumerate(rows) if (r[0], r[1]) == key))
    return dict(sorted(values.items())), [n not in owning for n in range(len(rows))]


@settings(max_examples=300, deadline=None)
@given(st.lists(row, max_size=40))
def test_the_merge_equals_cell_by_cell_assignment_in_delivery_order(rows) -> None:  # type: ignore[no-untyped-def]
    found, (values, superseded) = merged(rows), by_dict(rows)
    keys = [(rows[i][0], rows[i][1]) for i in found.first]
    assert keys == list(values)
    for place, name in enumerate(("a", "b")):
        expected = [NAN if v[place] is None else v[place] for v in values.values()]
        np.testing.assert_array_equal(found.columns[name], np.array(expected, np.float32))
    assert found.superseded.tolist() == superseded


@settings(max_examples=100, deadline=None)
@given(st.lists(row, max_size=20))
def test_delivering_everything_twice_changes_nothing_and_supersedes_the_second_copy_or_its_like(rows) -> None:  # type: ignore[no-untyped-def]
    once = merged(rows)
    history = [
        (rows[i][0], rows[i][1], *(None if np.isnan(once.columns[n][k]) else float(once.columns[n][k]) for n in "ab"))
        for k, i in enumerate(once.first)
    ]
    again = merged(history + history)
    assert again.superseded[len(history) :].all()
    for name in ("a", "b"):
        np.testing.assert_array_equal(again.columns[name], once.columns[name])


def test_a_missing_value_never_replaces_a_value() -> None:
    found = merged([(0, 5, 1.0, None), (0, 5, None, 2.0), (0, 5, None, None)])
    assert found.columns["a"].tolist() == [1.0]
    assert found.columns["b"].tolist() == [2.0]
    assert found.superseded.tolist() == [False, False, True]


def test_a_later_value_supersedes_and_an_equal_one_is_superseded() -> None:
    assert merged([(0, 0, 1.0, None), (0, 0, 2.0, None)]).superseded.tolist() == [True, False]
    assert merged([(0, 0, 1.0, None), (0, 0, 1.0, None)]).superseded.tolist() == [False, True]


def test_a_value_that_returns_is_owned_by_the_row_that_brought_it_back() -> None:
    found = merged([(0, 0, 1.0, None), (0, 0, 2.0, None), (0, 0, 1.0, None)])
    assert found.columns["a"].tolist() == [1.0]
    assert found.superseded.tolist() == [True, True, False]


def test_far_apart_times_and_many_machines_sort_without_overflow() -> None:
    far = 2**61
    found = merge(
        np.array([3, 1, 3], np.int64), np.array([far, -far, -far], np.int64), {"a": np.array([1, 2, 3], np.float32)}
    )
    assert found.columns["a"].tolist() == [2.0, 3.0, 1.0]


def test_no_rows_merge_to_no_rows() -> None:
    assert len(merged([]).first) == 0

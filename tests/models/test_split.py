"""Parts never overlap, in time or in machines."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.split import draw, split_by_machine, split_by_time

FLEET = {f"m{i}": i % 4 for i in range(20)}


def in_time(**options):
    given_options = {"train_until": 0.6, "validate_until": 0.8, "unseen_share": 0.2, "gap_us": 5, "seed": 0} | options
    return split_by_time(FLEET, 0, 100, **given_options)


def test_parts_are_later_one_after_the_other_with_a_gap():
    split, now = in_time(), np.arange(101)
    seen = next(m for m in FLEET if m not in split.unseen)
    assert np.flatnonzero(split.owns("train", seen, now)).tolist() == list(range(61))
    assert np.flatnonzero(split.owns("validate", seen, now)).tolist() == list(range(66, 81))
    assert np.flatnonzero(split.owns("test", seen, now)).tolist() == list(range(86, 101))


def test_an_unseen_machine_is_only_ever_tested():
    split, now = in_time(), np.arange(101)
    machine = next(iter(split.unseen))
    assert not split.owns("train", machine, now).any() and not split.owns("validate", machine, now).any()
    assert split.owns("test", machine, now).any()


def test_machines_are_drawn_evenly_over_their_failures():
    unseen = draw(FLEET, 0.2, seed=3)
    assert len(unseen) == 4 and sorted(FLEET[m] for m in unseen) == [0, 1, 2, 3]
    assert draw(FLEET, 0.2, seed=3) == unseen and draw(FLEET, 0.0, seed=3) == frozenset()
    assert len({draw(FLEET, 0.2, seed=seed) for seed in range(5)}) > 1


def test_by_machine_each_machine_is_in_one_part():
    split, now = split_by_machine(FLEET, frozenset({"m1"}), validate_share=0.2, seed=0), np.arange(5)
    for machine in FLEET:
        assert sum(split.owns(part, machine, now).all() for part in ("train", "validate", "test")) == 1
    assert split.owns("test", "m1", now).all() and len(split.held_out) == 4


@given(st.floats(0.2, 0.6), st.floats(0.65, 0.9), st.integers(0, 60))
def test_no_tick_belongs_to_two_parts(train, validate, gap):
    split, now = in_time(train_until=train, validate_until=validate, gap_us=gap), np.arange(101)
    for machine in FLEET:
        owned = sum(split.owns(part, machine, now).astype(int) for part in ("train", "validate", "test"))
        assert owned.max() <= 1

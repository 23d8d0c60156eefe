"""Progress that a person or a log can follow."""

from __future__ import annotations

import io

import pytest

from cluster.console import Drawing, amount, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (125, "2 min 05 s"), (3725, "1 h 02 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "elapsed_s", "text"),
    [
        (100, 400, 10, "100 of 400 files, 10/s, 30.0 s left"),
        (1, 400, 10, "1 of 400 files, 0.1/s"),  # too early for a time left
        (0, 400, 10, "0 of 400 files"),
        (12_345, None, 10, "12,345 files, 1,234/s"),
        (400, 400, 0, "400 of 400 files"),
        (400, 400, 10, "400 of 400 files, 40/s"),  # no «0.0 s left» while the step still writes
    ],
)
def test_an_amount_has_a_rate_and_a_time_left_where_they_mean_something(
    done: float, total: float | None, elapsed_s: float, text: str
) -> None:
    assert amount(done, total, "files", elapsed_s) == text


def test_a_log_gets_one_line_a_step_and_every_note() -> None:
    stream = io.StringIO()
    with Drawing(stream) as progress:
        progress.step("Read [a] file")
        progress.update(1, 2, "files")
        progress.note("one doubt")
        progress.step("Write")
    lines = [line.split("s] ")[1] for line in stream.getvalue().splitlines()]
    assert lines == ["Read [a] file", "  note: one doubt", "Write"]


def test_a_terminal_keeps_each_step_with_its_end() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with Drawing(stream, live=True) as progress:
            progress.step("Read")
            progress.note("one doubt")
            progress.step("Write")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    kept = [line.strip() for line in stream.getvalue().splitlines()]
    assert [line.split("  ")[0] for line in kept if line.startswith(("✓", "✗", "one"))] == [
        "one doubt",
        "✓ Read",
        "✗ Write",
    ]

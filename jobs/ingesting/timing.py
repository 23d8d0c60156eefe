"""What is wrong with a batch's times: gaps, clocks that were set, hours that a local clock shows twice or never.

The one idea: what many machines do at the same moment has one cause, so it is one finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingesting.folds import HOUR_US, folds
from jobs.ingesting.measures import GAP_PERIODS
from jobs.ingesting.verdicts import Case, span_h, when
from models.checks import DAY_US, Finding

Row = dict[str, Any]
LEAST_GAP_US = 12 * HOUR_US
HABIT = 4  # a gap is told where it is so many times as long as the machine's usual longest one of a month
TOGETHER = 0.8  # share of machines that skip an hour, from which on it is the clock's doing


def gaps(case: Case) -> Iterator[Finding]:
    """The longest silence of each machine, within months, between them and since the batch before."""
    silences: dict[str, list[tuple[int, int]]] = defaultdict(list)
    months: dict[str, list[Row]] = defaultdict(list)
    longest: dict[str, dict[str, int]] = defaultdict(dict)  # machine -> month -> longest silence within it
    covered: dict[str, list[tuple[int, int]]] = defaultdict(list)  # by earlier batches
    for table, new in ((case.before, False), (case.now, True)):
        timed = table.filter(pc.is_in(table["kind"], pa.array(["time", "gap"])))
        for row in timed.select(["kind", "machine", "month", "from_us", "until_us", "period_us"]).to_pylist():
            machine, month, lasts = row["machine"], row["month"], 0
            if row["kind"] == "gap":
                lasts = row["until_us"] - row["from_us"]
                silences[machine] += [(row["from_us"], row["until_us"])] if new else []
            elif new:
                months[machine].append(row)
            else:
                covered[machine].append((row["from_us"], row["until_us"]))
            longest[machine][month] = max(lasts, longest[machine].get(month, 0))
    for machine, unsorted in sorted(months.items()):
        rows, inside = sorted(unsorted, key=lambda r: int(r["from_us"])), silences[machine]
        usual = float(np.median([r["period_us"] for r in rows if r["period_us"]] or [0]))
        limit = max(GAP_PERIODS * usual, LEAST_GAP_US)
        if len(longest[machine]) > 2:
            limit = max(limit, HABIT * float(np.median(list(longest[machine].values()))))
        ends = [(a["until_us"], b["from_us"]) for a, b in pairwise(rows)]
        earlier = [until for _, until in covered[machine] if until < rows[0]["from_us"]]
        ends += [(max(earlier), rows[0]["from_us"])] if earlier else []
        ends = [_uncovered(begin, end, covered[machine]) for begin, end in ends]
        told = sorted((a - b, b, a) for b, a in [*inside, *ends] if a - b > limit)
        if told and usual:
            lasts, begin, end = told[-1]
            more = f", and {len(told) - 1} more such gaps" if len(told) > 1 else ""
            text = f"{machine}: no readings for {span_h(lasts / HOUR_US)}, {lasts / usual:,.0f} of its periods{more}"
            yield case.finding("gap", text, machine=machine, from_us=begin, until_us=end, value=lasts / HOUR_US)


def _uncovered(begin: int, end: int, covered: list[tuple[int, int]]) -> tuple[int, int]:
    """The longest part of a silence in which earlier batches have nothing either."""
    parts, at = [], begin
    for first, last in sorted(covered):
        if last > at and first < end:
            parts.append((at, max(at, first)))
            at = max(at, last)
    return max([*parts, (at, max(at, end))], key=lambda part: part[1] - part[0])


def clock_steps(case: Case) -> Iterator[Finding]:
    """Clocks that were set back, but for those that follow a local clock in autumn."""
    steps: dict[str, list[Row]] = defaultdict(list)
    for row in _pieces(case, "step"):
        if _autumn(row) is None and row["from_us"] > row["until_us"]:
            steps[row["machine"]].append(row)
    for machine, found in sorted(steps.items()):
        worst = max(found, key=lambda r: r["from_us"] - r["until_us"])
        back = (worst["from_us"] - worst["until_us"]) / HOUR_US
        size = span_h(back) if back >= 1 else f"{60 * back:.3g} min"
        places = {row["until_us"] // HOUR_US for row in found}
        more = f", and {len(places) - 1} more such steps" if len(places) > 1 else ""
        text = (
            f"{machine}: its clock was set back by {size} at {when(worst['from_us'])}, "
            f"and {worst['n']} rows have times that were there before{more}"
        )
        where = {"from_us": worst["until_us"], "until_us": worst["from_us"]}
        yield case.finding("clock_step", text, machine=machine, value=back, **where)


def folds_of_clocks(case: Case) -> Iterator[Finding]:
    """Local time that is described as UTC, and doubled hours that were read only once."""
    springs: dict[tuple[str, int], tuple[int, int]] = {}
    for row in case.of_kind("spring").to_pylist():
        n, skipped = springs.get((row["sensor"], row["from_us"]), (0, 0))
        springs[row["sensor"], row["from_us"]] = n + row["n"], skipped + row["rows"]
    autumns: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in _pieces(case, "step"):
        if place := _autumn(row):
            autumns[place].add(row["machine"])
    zones = sorted({zone for zone, _ in (*springs, *autumns)})
    told = [found for zone in zones if (found := _local(case, zone, springs, autumns))]
    yield from told[:1] if told else ()
    read: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    for row in _pieces(case, "fold"):
        place = row["reason"], row["from_us"]
        read[place] = [read[place][0] + row["n"], read[place][1] + row["m"]]
    for (zone, moment), passes in sorted(read.items()):
        if min(passes) == 0 and max(passes) > 0:
            text = (
                f"The hour around {when(moment)} UTC, which clocks of {zone} show twice, has readings of one pass "
                f"only: {max(passes)} rows. If there were two, one hour of readings has the other's times"
            )
            yield case.finding("dst_fold", text, from_us=moment - HOUR_US, until_us=moment + HOUR_US)


def _local(
    case: Case, zone: str, springs: dict[tuple[str, int], tuple[int, int]], autumns: dict[tuple[str, int], set[str]]
) -> Finding | None:
    """One finding for a zone whose hours the readings skip or repeat."""
    skipped = [(at, n) for (z, at), (reads, n) in springs.items() if z == zone and n and n >= TOGETHER * reads]
    machines = len(set(case.of_kind("time")["machine"].to_pylist()))
    twice = [(at, len(who)) for (z, at), who in autumns.items() if z == zone and len(who) >= TOGETHER * machines]
    contradicted = any(z == zone and n < TOGETHER * reads for (z, _), (reads, n) in springs.items() if reads)
    if contradicted or not (skipped or twice):
        return None
    parts = [f"skip the hour at {when(at)[11:]} on {when(at)[:10]} ({n} of {machines} machines)" for at, n in skipped]
    parts += [f"repeat the hour at {when(at)[11:]} on {when(at)[:10]} ({n} machines)" for at, n in twice]
    at = (skipped or twice)[0][0]
    text = (
        f"Times are described as UTC, but readings {' and '.join(parts)}, as local clocks of {zone} do (or of a zone "
        f"that changes with it): if they are local, name the zone as `zone` in the source description"
    )
    return case.finding("dst_fold", text, from_us=at, until_us=at + HOUR_US, value=float((skipped or twice)[0][1]))


def _autumn(row: Row) -> tuple[str, int] | None:
    """The doubled hour that a step back of at most an hour lies in."""
    if row["from_us"] - row["until_us"] > HOUR_US or row["from_us"] is None:
        return None
    year = int(when(row["until_us"])[:4])
    for fold in folds(year):
        inside = fold.wall_us <= row["until_us"] < fold.wall_us + HOUR_US
        if not fold.spring and inside and row["from_us"] <= fold.wall_us + HOUR_US:
            return fold.zone, fold.wall_us
    return None


def _pieces(case: Case, kind: str) -> list[Row]:
    rows: list[Row] = case.pieces.filter(pc.equal(case.pieces["kind"], kind)).to_pylist()
    return rows


def silent(case: Case) -> Iterator[Finding]:
    """Machines that stopped reporting long before the batch's end."""
    last: dict[str, int] = {}
    new = set()
    for table in (case.before, case.now):
        for row in table.filter(pc.equal(table["kind"], "time")).to_pylist():
            last[row["machine"]] = max(row["until_us"], last.get(row["machine"], row["until_us"]))
            new |= {row["machine"]} if table is case.now else set()
    if len(new) < 4:
        return
    end = int(np.median([last[machine] for machine in new]))
    for machine in sorted(new):
        if end - last[machine] > 7 * DAY_US:
            text = f"{machine}: no readings since {when(last[machine])}, while most machines go on until {when(end)}"
            where = {"machine": machine, "from_us": last[machine], "until_us": end}
            yield case.finding("gap", text, value=(end - last[machine]) / HOUR_US, **where)

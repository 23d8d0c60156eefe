"""Logs that hold several kinds of entries: SAP notifications and orders, Maximo work orders, one log of everything.

The one idea: a stream has one role, so such a file is described more than once, each time with the texts of
the column (`where`) that tells the kind; entries of no kind that is learned from are named, not lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.infer import roles, values, words
from jobs.infer.columns import Column
from jobs.infer.format import Shape, Table
from jobs.infer.layout import Group
from jobs.infer.names import folded
from jobs.infer.roles import Fit
from models.source import Role

_MOST = 40  # kinds of entries; more is prose
_KINDS: tuple[tuple[Role, str], ...] = (
    ("maintenance", "maint wart instandh inspect inspe service repair reparat overhaul pm cm preventi lubric replace"),
    ("errors", "error fehler alarm warn trip code meldung message"),
    ("operating_states", "state zustand status betrieb mode"),
    ("failures", "fail ausfall breakdown stoerung schaden defekt defect break_down"),
)
_CORRECTIVE = "unknown"


@dataclass(frozen=True)
class Kind:
    """One of a file's kinds: its fit, the texts that mark its rows, and what is said of the rest."""

    fit: Fit
    where: dict[str, tuple[str, ...]]
    remark: str = ""


def kinds(path: str, shape: Shape, columns: dict[str, Column], fit: Fit) -> list[Kind]:
    """The kinds of entries in a log; empty where it is one log, or none. ``fit``: what it is as a whole."""
    if not shape.named or fit.sensors or fit.tag or fit.role == "machines" or not any(c.time for c in columns.values()):
        return []
    found = _notifications(path, shape, columns) or _several(path, shape, columns)
    return found or _orders(path, shape, columns, fit)


def _notifications(path: str, shape: Shape, columns: dict[str, Column]) -> list[Kind]:
    """Notifications of a breakdown are failures: those with the indicator, else those of type M2."""
    kind = next((c for c in columns.values() if c.key in words.NOTIFICATION_TYPE and not c.time), None)
    marked = next((c for c in columns.values() if c.key in words.BREAKDOWN and _yes_or_no(c)), None)
    if marked is not None:
        column, texts = marked, tuple(t for t in marked.distinct if folded(t) in words.YES)
    elif kind is not None:
        told = (t for t in kind.distinct if folded(t).split("_")[0] == "m2" or _role(t) == "failures")
        column, texts = kind, tuple(told)
    else:
        return []
    if not texts:
        return []
    rest = {n: c for n, c in columns.items() if n not in (column.name, kind.name if kind else "")}
    fit = roles.event("failures", path, shape, rest)
    others = sorted({*(kind.distinct if kind and column is kind else ())} - set(texts))
    left = f"{', '.join(map(repr, others))} are no failures" if others else f"rows without {texts[0]!r} are no failures"
    return [Kind(fit, {column.name: texts}, f"{column.name!r}: {left} and are not read")] if fit else []


def _orders(path: str, shape: Shape, columns: dict[str, Column], whole: Fit) -> list[Kind]:
    """Preventive orders and corrective ones, which mend something."""
    column = next((c for c in columns.values() if c.key in words.ORDER_TYPE and c.num_values and not c.numeric), None)
    if column is None or len(column.distinct) > _MOST:
        return []
    if whole.role != "maintenance" and (column.key in words.KIND or values.canonical("trigger", column.distinct)[1]):
        return []
    fit = roles.event("maintenance", path, shape, columns)
    if fit is None or fit.fields.get("trigger") != column.name or "effect" in fit.fields:
        return []
    corrective = tuple(t for t in column.distinct if _corrective(t))
    others = tuple(t for t in column.distinct if t not in corrective)
    if not corrective:
        return []
    mended = roles.refit(fit, effect=column.name)
    if not others:
        return [Kind(mended, {})]
    return [Kind(mended, {column.name: corrective}), Kind(fit, {column.name: others})]


def _several(path: str, shape: Shape, columns: dict[str, Column]) -> list[Kind]:
    """One log of failures, maintenance, errors and states."""
    for column in columns.values():
        if column.key not in words.KIND or column.numeric or not 1 < len(column.distinct) <= _MOST:
            continue
        roles_of = {text: _role(text) for text in column.distinct}
        found = {role: tuple(t for t, r in roles_of.items() if r == role) for role, _ in _KINDS}
        if sum(bool(texts) for texts in found.values()) < 2:
            continue
        rest = {name: c for name, c in columns.items() if name != column.name}
        unknown = [text for text, role in roles_of.items() if role is None]
        listed = ", ".join(map(repr, unknown))
        remark = f"{column.name!r}: {listed} are of no known kind and not read" if unknown else ""
        fits = [(roles.event(role, path, shape, rest), texts) for role, texts in found.items() if texts]
        found_kinds = [Kind(fit, {column.name: texts}) for fit, texts in fits if fit]
        return [replace(kind, remark="" if at else remark) for at, kind in enumerate(found_kinds)]
    return []


def _role(text: str) -> Role | None:
    name = folded(text)
    for role, pieces in _KINDS:
        if any(piece in (name.split("_") if len(piece) < 4 else name) for piece in pieces.split()):
            return role
    return None


def _corrective(text: str) -> bool:
    value = words.VALUES["trigger"][0]
    assert value[0] == _CORRECTIVE, "the first entry of the triggers names corrective work"
    name = folded(text)
    return any(piece in (name.split("_") if len(piece) < 5 else name) for piece in value[1].split())


def _yes_or_no(column: Column) -> bool:
    found = {folded(text) for text in column.cells}
    return bool(found & words.YES) and found <= words.YES | words.NO


def filtered(group: Group, where: Mapping[str, Sequence[str]]) -> Group:
    """The group with those rows of its sample that are of one kind: all of them without ``where``."""
    return replace(group, samples={name: _kept(table, where) for name, table in group.samples.items()})


def _kept(table: Table, where: Mapping[str, Sequence[str]]) -> Table:
    rows = [r for r in range(table.num_rows) if all(table.cells[name][r] in texts for name, texts in where.items())]
    cells = {name: [column[r] for r in rows] for name, column in table.cells.items()}
    return replace(table, cells=cells, num_head=sum(r < table.num_head for r in rows))

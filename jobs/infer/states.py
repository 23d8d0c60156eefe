"""States and codes among readings: texts such as ``RUN`` read as numbers, and numbers that measure nothing.

The one idea: a text column is a state only where its name or its texts say so, so that an operator's name
never becomes a sensor; what stands still is 0 and what runs is 1, wherever both are written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from jobs.infer.names import folded, split_unit

_MOST = 20  # texts of a state; more is prose
_LONGEST = 40  # characters
_FEW = 10  # whole numbers of a state
_NAME = re.compile(
    r"(^|_)(state|status|mode|zustand|betrieb\w*|phase|running|laeuft|schalter|switch|valve|ventil|"
    r"door|tuer|on_off|ein_aus|run|step|schritt|programm?|recipe|rezept|sts|stat)(_|$)"
)
_CODE = re.compile(
    r"(^|_)(error|fehler|alarm|fault|stoerung|warn\w*|code|errcode|errorcode|fehlercode|diagnos\w*)(_|\d|$)"
)
_WHOLE = re.compile(r"[+-]?\d+(\.0+)?")
_STILL = "off stop stopped aus stillstand steht halt halted false no nein closed close zu inactive inaktiv 0 normal ok "
_STILL += "none down"
_RUNS = "on run running ein an betrieb laeuft in_betrieb true yes ja open offen auf active aktiv up"
_OTHER = "idle standby bereit ready auto automatic automatik manual hand manuell local remote maintenance wartung "
_OTHER += "fault stoerung alarm error fehler warning warnung start starting stopping anfahren abfahren unknown "
_OTHER += "unbekannt setup"
_RANK = dict.fromkeys(_STILL.split(), 0) | dict.fromkeys(_RUNS.split(), 1) | dict.fromkeys(_OTHER.split(), 2)


def states(name: str, cells: Sequence[str]) -> dict[str, float] | None:
    """Text -> number where these texts are states or codes, else None."""
    texts = sorted({cell for cell in cells if cell})
    if not texts or len(texts) > _MOST or max(map(len, texts)) > _LONGEST:
        return None
    key = folded(split_unit(name)[0])
    known = sum(folded(text) in _RANK for text in texts)
    named = (_NAME.search(key) and (known or len(texts) > 1)) or _CODE.search(key)
    if not named and known < len(texts):
        return None
    numbers: dict[str, float] = {}
    for rank in (0, 1):
        if found := next((folded(text) for text in texts if _RANK.get(folded(text)) == rank), None):
            numbers[found] = float(rank)
    free = 2 if numbers else 1
    for text in texts:
        if folded(text) not in numbers:
            numbers[folded(text)] = float(free)
            free += 1
    return {text: numbers[folded(text)] for text in texts}


def counted(name: str, texts: Collection[str]) -> str | None:
    """What whole numbers are that measure nothing, or None."""
    if split_unit(name)[1] is not None or not texts or not all(_WHOLE.fullmatch(text) for text in texts):
        return None
    key = folded(name)
    if _CODE.search(key):
        return "codes, no measure"
    return f"a state of {len(texts)} whole numbers" if _NAME.search(key) and len(texts) <= _FEW else None

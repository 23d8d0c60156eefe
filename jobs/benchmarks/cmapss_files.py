"""NASA's C-MAPSS files: which they are, and whether they are whole.

The one idea: a figure from half a file would be no figure, so every number is read and counted before anything is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobs.benchmarks.given import UNREADABLE, given_file, require_folder, unpacked
from models.errors import InputError

SENSORS = tuple(f"setting_{i}" for i in range(1, 4)) + tuple(f"sensor_{i:02d}" for i in range(1, 22))
_WHOSE = "NASA's C-MAPSS files"
Numbers = npt.NDArray[np.float64]


def read_labels(data: Path, subset: str) -> Numbers:
    """Cycles left after each test engine's last row. Raises InputError naming the file that is missing or not whole."""
    require_folder(data, _WHOSE)
    files = {part: data_file(data, part, subset) for part in ("train", "test", "RUL")}
    for part in ("train", "test"):
        _numbers(files[part], columns=2 + len(SENSORS))  # a figure from half a file would be no figure
    return _numbers(files["RUL"], columns=1)


def data_file(data: Path, part: str, subset: str) -> Path:
    """A file of a subset (``part``: train, test, RUL). Raises InputError where it is missing."""
    return given_file(data, f"{part}_{subset}", "txt", _WHOSE)


def _numbers(path: Path, *, columns: int) -> Numbers:
    """Every number of a file, row by row. Raises InputError where it is no table of whole rows."""
    expected = "one number a line" if columns == 1 else f"{columns} numbers a line"
    try:
        found = np.array(unpacked(path).split(), float)
        wrong = "" if len(found) else "nothing"
        wrong = wrong or (f"{len(found):,} numbers" if len(found) % columns else "")
        wrong = wrong or ("" if np.isfinite(found).all() else "a number that is not finite")
        wrong = wrong or ("a negative one" if columns == 1 and (found < 0).any() else "")
    except UNREADABLE as error:
        wrong = str(error)
    if wrong:
        what = "labels" if columns == 1 else "rows of engines"
        raise InputError(f"Unreadable {what}", expected=expected, found=wrong, where=path, do="Fetch NASA's file again")
    return found

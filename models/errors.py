"""Errors that help: each says what was expected, what was found, where, and what to do."""

from __future__ import annotations

from typing import Any


class MillwrightError(Exception):
    """The work failed. ``exit_code`` is the command's, ``status`` the HTTP answer's."""

    exit_code = 1
    status = 500

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        found: object = None,
        where: object = None,
        do: str | None = None,
    ) -> None:
        self.what, self.expected, self.found, self.where, self.do = what, expected, found, where, do
        super().__init__(str(self))

    def __str__(self) -> str:
        middle = []
        if self.expected is not None:
            middle.append(f"expected {self.expected}")
        if self.found is not None:
            middle.append(f"found {self.found}")
        text = self.what + (": " + ", ".join(middle) if middle else "")
        if self.where is not None:
            text += f" (in {self.where})"
        return f"{text}. {self.do}." if self.do else f"{text}."

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders in Ray; keyword-only arguments need help to survive it.
        fields = {"expected": self.expected, "found": self.found, "where": self.where, "do": self.do}
        return _rebuild, (type(self), self.what, fields)


def _rebuild(kind: type[MillwrightError], what: str, fields: dict[str, Any]) -> MillwrightError:
    return kind(what, **fields)


class InputError(MillwrightError):
    """The input or the configuration is wrong; nothing was changed."""

    exit_code = 2
    status = 422


class NotFoundError(InputError):
    """What was asked for is not here."""

    status = 404


class DivergedError(InputError):
    """A training under this configuration never had a finite loss."""


class AccessError(InputError):
    """No key, a wrong key, or a key without that right."""

    status = 401


class GateError(MillwrightError):
    """A quality gate said no."""

    exit_code = 3
    status = 409

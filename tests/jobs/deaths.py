"""A step of a job that dies, before it does its work or after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def death_at(module: object, step: str, *, after: bool) -> Iterator[None]:
    """Inside, the work must reach the step and die there, as by Ctrl-C or kill."""
    real = getattr(module, step)

    def dies(*given: object, **more: object) -> object:
        if after:
            real(*given, **more)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(module, step, dies)
        with pytest.raises(KeyboardInterrupt):
            yield

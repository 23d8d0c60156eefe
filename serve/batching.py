"""Windows of requests that come together are scored together: one call of the model, one reading of its curves.

The one idea: nobody waits for company. What has come in one turn of the loop is scored at its end, so a lone request
is scored at once, and the more come while a batch is scored, the larger is the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.predict import Cause, Outlook, outlooks, shown, window_digests
from models.predictor import Predictor
from models.windows import Float

INLINE_WINDOWS = 64  # more are scored in a thread, so that health checks are answered meanwhile


@dataclass(frozen=True)
class Seen:
    """What a model says of one window, and what the window itself shows against it."""

    outlook: Outlook
    causes: list[Cause]
    digest: str


_Waiting = tuple[Float | Sequence[Float], asyncio.Future[list[Seen]]]


@dataclass
class Batcher:
    """One model's; ``observe`` is told the size of each call. Only the loop that answers requests may use it."""

    predictor: Predictor
    observe: Callable[[int], None] = lambda num_windows: None
    _waiting: list[_Waiting] = field(default_factory=list)

    async def see(self, windows: Float | Sequence[Float]) -> list[Seen]:
        """Each window [W, C], in order. Raises what the model raises."""
        if len(windows) > INLINE_WINDOWS:
            whole = windows if isinstance(windows, np.ndarray) else np.stack(windows)
            self.observe(len(whole))
            return await asyncio.to_thread(seen, self.predictor, whole)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Seen]] = loop.create_future()
        self._waiting.append((windows, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._flush)
        return await future

    def _flush(self) -> None:
        taken, self._waiting = self._waiting, []
        while taken:
            count, some = 0, list[_Waiting]()
            while taken and (not some or count + len(taken[0][0]) <= INLINE_WINDOWS):
                some.append(taken.pop(0))
                count += len(some[-1][0])
            self._answer(some)

    def _answer(self, some: list[_Waiting]) -> None:
        try:
            whole = np.stack([window for windows, _ in some for window in windows])
            self.observe(len(whole))
            found = seen(self.predictor, whole)
        except Exception as error:  # each request says so itself
            for _, future in some:
                if not future.done():
                    future.set_exception(error)
            return
        at = 0
        for windows, future in some:
            if not future.done():  # its client may have gone
                future.set_result(found[at : at + len(windows)])
            at += len(windows)


def seen(predictor: Predictor, values_BWC: Float) -> list[Seen]:
    """What the model says of windows, all at once."""
    spec, scored = predictor.spec, predictor.score(values_BWC)
    missing, causes = shown(spec, values_BWC)
    looks = outlooks(spec, scored.hazard, scored.modes, missing)
    return list(map(Seen, looks, causes, window_digests(values_BWC)))

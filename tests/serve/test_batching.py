"""What comes together is scored together, and nobody waits, mixes or pays for another."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from cluster.home import Home
from models.predict import window_digest
from models.predictor import Scored
from serve.batching import INLINE_WINDOWS, Batcher, seen
from serve.service import Service


class Counting:
    """A predictor that notes how many windows it was asked about at once, and fails for a window of ``poison``."""

    def __init__(self, real: Any, poison: float | None = None) -> None:
        self.real, self.spec, self.poison = real, real.spec, poison
        self.calls: list[int] = []

    def score(self, values: np.ndarray) -> Scored:
        self.calls.append(len(values))
        if self.poison is not None and (values == self.poison).any():
            raise RuntimeError("broken")
        found: Scored = self.real.score(values)
        return found


def windows(num: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(1, 1, (num, 8, 4)).astype(np.float32))


async def together(batcher: Batcher, groups: list[list[np.ndarray]]) -> list[Any]:
    return await asyncio.gather(*(batcher.see(group) for group in groups), return_exceptions=True)


@pytest.fixture
def predictor(service: Service, plant_home: Home) -> Any:
    return service.scorer.model("mill").predictor


def test_requests_of_one_turn_are_one_call_and_each_gets_its_own(predictor: Any) -> None:
    counting, groups, told = Counting(predictor), [windows(n, n) for n in (1, 3, 1, 2)], list[int]()
    found = asyncio.run(together(Batcher(counting, told.append), groups))  # type: ignore[arg-type]
    assert counting.calls == told == [7]
    assert found == [seen(predictor, np.stack(group)) for group in groups]


def test_a_call_is_never_larger_than_what_may_hold_up_the_loop(predictor: Any) -> None:
    counting = Counting(predictor)
    asyncio.run(together(Batcher(counting), [windows(30) for _ in range(5)]))  # type: ignore[arg-type]
    assert sorted(counting.calls) == [30, 60, 60]
    counting.calls.clear()
    asyncio.run(together(Batcher(counting), [windows(INLINE_WINDOWS + 1)]))  # type: ignore[arg-type]
    assert counting.calls == [INLINE_WINDOWS + 1]
    many = windows(2 * INLINE_WINDOWS + 5)
    alone = np.concatenate([predictor.hazard(one[None]) for one in many])
    np.testing.assert_allclose(predictor.hazard(np.stack(many)), alone, rtol=1e-5)
    assert [each.digest for each in asyncio.run(Batcher(predictor).see(many))] == list(map(window_digest, many))


def test_a_model_that_fails_tells_all_and_goes_on(predictor: Any) -> None:
    batcher = Batcher(Counting(predictor, poison=7.0))  # type: ignore[arg-type]
    found = asyncio.run(together(batcher, [windows(1), [np.full((8, 4), 7.0, np.float32)]]))
    assert [type(one) for one in found] == [RuntimeError, RuntimeError]
    assert len(asyncio.run(batcher.see(windows(2)))) == 2


def test_a_client_that_has_gone_costs_the_others_nothing(predictor: Any) -> None:
    async def run() -> Any:
        batcher = Batcher(predictor)
        gone, stays = (asyncio.create_task(batcher.see(windows(1, seed))) for seed in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(run()) == seen(predictor, np.stack(windows(1, 2)))

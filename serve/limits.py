"""How much the holder of a key may ask for: requests a second, as a bucket that fills; sizes, as the smaller of two.

The one idea: a key's rate is of the whole service, and a replica lets its own share through, since what asks often is
spread over replicas; that costs no word between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.keys import Key
from models.errors import MillwrightError


class RateError(MillwrightError):
    """More requests than the key's rate allows; ``retry_after_s`` until the next one is let through."""

    status = 429
    retry_after_s: int = 1


@dataclass
class Rates:
    """Buckets of keys with a rate. ``now_s`` is a clock that only goes forward."""

    replicas: int
    now_s: Callable[[], float]
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)  # key -> requests left, as of when

    def take(self, key: Key) -> None:
        """One request of the key. Raises RateError."""
        rate = key.limits.rate
        if rate is None:
            return
        own, now = rate / self.replicas, self.now_s()
        most = max(own, 1.0)
        left, since = self._left.get(key.id, (most, now))
        left = min(most, left + (now - since) * own)
        self._left[key.id] = (left - 1 if left >= 1 else left), now
        if left < 1:
            error = RateError(
                "Too many requests", expected=f"at most {rate:g} a second with this key", do="Come again later"
            )
            error.retry_after_s = max(1, math.ceil((1 - left) / own))
            raise error

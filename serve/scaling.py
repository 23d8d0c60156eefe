"""How many replicas there should be: as many as keep the mean number of requests in flight at the target.

The one idea: Ray Serve sees no request, so each replica tells it how many were in flight on average, by Little's law:
the seconds that requests took, in a second. Ray waits, bounds and carries out; what is here decides. The function is
sent to Ray's controller by value, so this module needs nothing of ours.
"""

from __future__ import annotations

from typing import Any

IN_FLIGHT = "in_flight"


def replicas_wanted(context: Any) -> tuple[float, dict[str, Any]]:
    """The policy of ``ray.serve.config.AutoscalingPolicy``: replicas wanted, and no state to keep."""
    told = (context.aggregated_metrics or {}).get(IN_FLIGHT, {})
    running = context.current_num_replicas
    if not told or not running:
        return context.target_num_replicas, {}
    return running * (sum(told.values()) / len(told)) / context.config.target_ongoing_requests, {}


class Occupancy:
    """The mean number of requests in flight since it was last asked for."""

    def __init__(self, busy_s: float, now_s: float) -> None:
        self._busy_s, self._now_s = busy_s, now_s

    def since(self, busy_s: float, now_s: float) -> float:
        """``busy_s`` is what all requests took until now, together."""
        mean = (busy_s - self._busy_s) / max(now_s - self._now_s, 1e-3)
        self._busy_s, self._now_s = busy_s, now_s
        return mean

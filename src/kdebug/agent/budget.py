"""How often the agent may look, so that looking costs the pod almost nothing.

Promise 1: refreshing uses at most 2% of the CPU that the pod may use. Work that a person asked for
once is not held back (it runs at low priority instead): only what repeats is stretched.
"""

from __future__ import annotations

import os

from kdebug.annotations import Optional

SHARE = 0.02
SHORTEST_SECONDS = 1.0
"""Nobody reads faster."""
LONGEST_SECONDS = 30.0
"""Half of the silence that counts as a lost connection."""


def refresh_interval(cost_seconds: float, quota_cores: Optional[float]) -> float:
    """Seconds until the next pass when one pass costs `cost_seconds` of CPU time."""
    cores = quota_cores or float(os.cpu_count() or 1)
    return min(LONGEST_SECONDS, max(SHORTEST_SECONDS, cost_seconds / (SHARE * cores)))

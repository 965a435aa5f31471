"""How many replicas a load wants: by what runs, and by what waits for its turn."""

from math import ceil


def wanted_replicas(running: float, waiting: float, num_replicas: int, target: float) -> int:
    """At most `target` requests for each. Where some wait, one more than there are: their replica
    may be full of long prompts while its number of requests is small. At least one."""
    by_number = ceil((running + waiting) / target)
    by_waiting = num_replicas + 1 if waiting >= 1 else 0
    return max(by_number, by_waiting, 1)

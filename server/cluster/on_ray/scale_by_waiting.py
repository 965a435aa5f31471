"""Ray's autoscaler asks this function how many replicas there should be."""

from typing import Any

from thirdeye.server.cluster.picking.wanted_replicas import wanted_replicas


def scale_by_waiting(context: Any) -> tuple[int, dict[str, Any]]:
    """`context` is Ray's `AutoscalingContext`; what comes back is the number, and nothing to keep.
    Ray holds it between least and most."""
    said = context.aggregated_metrics or {}
    running, waiting = (sum(said.get(name, {}).values()) for name in ("running", "waiting"))
    target = context.config.get_target_ongoing_requests()
    wanted = wanted_replicas(running, waiting, context.current_num_replicas, target)
    return wanted, dict(context.policy_state)

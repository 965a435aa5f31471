"""A model's replicas and their picker as an application of Ray Serve.

`thirdeye cluster up` deploys it, and so does `serve deploy` with a file that names `build`
(deploy/ray/serve.yaml).
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from thirdeye.server.cluster.cluster_options import AppSpec, longest_answer
from thirdeye.server.cluster.on_ray.route_picker import RoutePicker
from thirdeye.server.cluster.on_ray.served_replica import ServedReplica
from thirdeye.server.cluster.ray_environment import LEAVING, SPARE
from thirdeye.server.settings.read_settings import read_settings

NAME = "thirdeye"  # of the replicas' deployment
HERE = "thirdeye.server.cluster.on_ray"
MANY = 4096  # requests: our own admission refuses, with a reason and a time, long before
QUIET = {"enable_access_log": False}


def build(args: Mapping[str, Any]) -> Application:
    """Raises `msgspec.ValidationError`, `pydantic.ValidationError`."""
    spec = msgspec.convert(dict(args), AppSpec)
    settings = read_settings(spec.options)
    batch = settings.scheduling.max_num_seqs
    replicas = serve.deployment(serve.ingress()(ServedReplica)).options(
        name=NAME,
        **scale(spec, batch),
        ray_actor_options={"num_cpus": spec.cpus, "num_gpus": spec.gpus},
        max_ongoing_requests=MANY,
        health_check_period_s=2,
        health_check_timeout_s=20,
        graceful_shutdown_timeout_s=longest_answer(settings) + LEAVING + SPARE,
        graceful_shutdown_wait_loop_s=0.5,
        request_router_config=RequestRouterConfig(
            request_router_class=f"{HERE}.replica_watcher:ReplicaWatcher",
            request_routing_stats_period_s=1,
        ),
        logging_config=QUIET,
    )
    picker = serve.deployment(serve.ingress()(RoutePicker)).options(
        name="picker",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=MANY,
        logging_config=QUIET,
    )
    served = replicas.bind(spec.options, max(1, int(spec.cpus)))
    chosen = picker.bind(served, NAME, max(batch // 8, 1))
    return served._with_ingress_request_router(chosen)


def scale(spec: AppSpec, batch: int) -> dict[str, Any]:
    if spec.autoscale is None:
        return {"num_replicas": spec.replicas}
    least, most = spec.autoscale
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=least,
            max_replicas=most,
            initial_replicas=min(max(spec.replicas, least), most),
            target_ongoing_requests=0.6 * batch,
            upscale_delay_s=2,
            downscale_delay_s=300,
            metrics_interval_s=1,
            look_back_period_s=3,
            policy=AutoscalingPolicy(policy_function=f"{HERE}.scale_by_waiting:scale_by_waiting"),
        )
    }

"""The actor of Ray Serve that answers HAProxy which replica a request goes to."""

from typing import Any

from starlette.types import ASGIApp

from thirdeye.server.cluster.on_ray import replica_news
from thirdeye.server.cluster.picking.asking_picker import AskingPicker
from thirdeye.server.cluster.picking.picker import Picker
from thirdeye.server.cluster.picking.route_app import RouteApp


class RoutePicker:
    """`server` is the handle of the replicas' deployment. `idle_below`: see `Picker`."""

    def __init__(self, server: Any, deployment: str, idle_below: int) -> None:
        self._picker = AskingPicker(Picker(idle_below))
        replica_news.NEWS.watch(deployment, self._picker.update)
        self._server = server  # kept: Ray tells of the replicas as long as the handle is there
        self._server._init()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return RouteApp(self._picker)

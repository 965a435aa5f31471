"""The front door of every POST route: a request's bytes become checked fields, or a refusal.

What was taken and did not change the answer is named in the header `X-Ignored-Params`: hints, and
with `--lenient` unknown fields. It goes out with the status, so streams have it too. A field that
is known keeps its rules: leniency never lets a bad value through.
"""

from typing import TypeVar

from starlette.requests import Request

from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.json_body import read_json
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.requests.pydantic_errors import missing, parse
from thirdeye.server.api.requests.strict_model import Strict

Model = TypeVar("Model", bound=Strict)


class BodyReader:
    """Reads the body of a request, within this server's limit and with its leniency."""

    def __init__(self, config: ApiConfig) -> None:
        self._max_bytes = config.max_body_bytes
        self._lenient = config.lenient
        self._require_model = config.require_model

    async def read(self, request: Request, model: type[Model]) -> Model:
        """The request's body as `model`. Raises `ApiError` naming the first thing that is wrong."""
        data = await read_json(request, self._max_bytes)
        names = lifetime_of(request).ignored_params
        body = parse(model, data, Ignored(names, is_lenient=self._lenient))
        if self._require_model and model.names_model and "model" not in body.model_fields_set:
            raise missing("model")
        return body

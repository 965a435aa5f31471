"""`cache_control`: a hint, since prefixes are cached here without being asked."""

from typing import Annotated, Literal

from pydantic import Field

from thirdeye.server.api.field_rules.hints import Hint
from thirdeye.server.api.requests.strict_model import Strict


class CacheControl(Strict):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None
    scope: str | None = Field(None, max_length=64)


CacheHint = Annotated[CacheControl | None, Hint()]

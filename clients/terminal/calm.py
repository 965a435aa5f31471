"""How a model is sampled when a person in a terminal does not say.

The API's own default, temperature 1, lets small models wander. A server that says how its model
wants to be sampled (`generation_defaults` of its model card, thirdeye's own) is left to it.
"""

from collections.abc import Mapping
from typing import Any

from thirdeye.clients.client import Client
from thirdeye.clients.errors import ConnectionFailed, ThirdeyeError

CALM = 0.3


def calmed(client: Client, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params`, with a temperature if neither they nor the model have one."""
    if "temperature" in params or _is_suggested(client):
        return dict(params)
    return {**params, "temperature": CALM}


def _is_suggested(client: Client) -> bool:
    try:
        cards = client.models()
    except ConnectionFailed:
        raise
    except ThirdeyeError:
        return False  # a server without a list of models
    named = [card for card in cards if card.id == client.model] or cards[:1]
    suggested = named[0].raw.get("generation_defaults") if named else None
    return isinstance(suggested, dict) and any(v is not None for v in suggested.values())

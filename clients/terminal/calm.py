"""How a model is sampled when a person in a terminal does not say.

The API's own defaults, temperature 1 and no penalty, let small models wander and go round in
circles: these are what the chat page sends too. A server that says how its model wants to be
sampled (`generation_defaults` of its model card, thirdeye's own) is left to it.
"""

from collections.abc import Mapping
from typing import Any

from thirdeye.clients.client import Client
from thirdeye.clients.errors import ConnectionFailed, ThirdeyeError

CALM = {"temperature": 0.3, "frequency_penalty": 0.3}


def calmed(client: Client, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params`, with what they leave open of `CALM` if the model suggests nothing."""
    if CALM.keys() <= params.keys() or _is_suggested(client):
        return dict(params)
    return {**CALM, **params}


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

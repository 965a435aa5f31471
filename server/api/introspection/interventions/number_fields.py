"""Texts, and numbers of layers, heads and positions, as the fields of a look name them."""

from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from thirdeye.server.api.requests.fields import Prompt, one_prompt_schema, parse_one_prompt

MAX_TOKENS = 512

OneText = Annotated[
    Prompt, PlainValidator(parse_one_prompt), WithJsonSchema(one_prompt_schema(MAX_TOKENS))
]
# How many there are is the model's matter: see `layers_of`, and `openapi/served_model.py`.
LayerNumber = Annotated[int, Field(json_schema_extra={"minimum": 0, "format": "layer-number"})]
HeadNumber = Annotated[int, Field(json_schema_extra={"minimum": 0, "format": "head-number"})]
Position = Annotated[int, Field(ge=-MAX_TOKENS, lt=MAX_TOKENS)]  # negative ones from the end

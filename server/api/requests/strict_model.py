"""What every request's model is made of: strict (no coercion, no NaN), closed (an unknown field is
an error), and `null` means "not given".
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

MAX_INT = 2**31 - 1

TokenId = Annotated[int, Field(ge=0, le=MAX_INT, json_schema_extra={"format": "token-id"})]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: ValidationInfo) -> Any:
        """And unknown fields are, where the context is a set that takes their names; else the first
        of them is kept, to be refused: a body may hold a hundred thousand, each an error."""
        if not isinstance(value, dict):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = [name for name in value if name not in known]
        if info.context is not None:
            info.context.update(unknown)
        elif unknown:
            known.add(unknown[0])
        return {k: v for k, v in value.items() if k in known and (v is not None or k in unknown)}

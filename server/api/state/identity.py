"""Which server this is, as far as it decides the bits of an answer: build, weights, numerics.

Two servers of one identity promise the same tokens for the same request. `system_fingerprint` is
its short name, and a receipt holds it whole.
"""

import hashlib
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """`build` covers our own code, `weights` and `tokenizer` the model, `numerics` the rest."""

    version: str = ""
    build: str = ""
    weights: str = ""
    tokenizer: str = ""
    numerics: str = ""

    @property
    def fingerprint(self) -> str:
        """`te-0.1.0-9c1f52ab`: equal where all parts are equal."""
        digest = hashlib.sha256("|".join(astuple(self)).encode()).hexdigest()
        return f"te-{self.version}-{digest[:8]}"

"""What choosing a token needs to know of a request: the tokens before it, and where it will stand.

The scheduler's `Sequence` is a `History`; so is a sequence as it will be if some drafts turn out to
be right. Sampling and grammars know no more of the scheduler than this.
"""

from dataclasses import dataclass
from typing import Protocol

from thirdeye.server.engine.interface.grammar_protocol import Matcher
from thirdeye.server.engine.interface.types import Request


class History(Protocol):
    """The tokens before the one that is to be chosen."""

    @property
    def request(self) -> Request: ...
    @property
    def token_ids(self) -> list[int]: ...
    @property
    def num_prompt_tokens(self) -> int: ...
    @property
    def num_generated_tokens(self) -> int: ...
    @property
    def matcher(self) -> Matcher | None: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One token to choose."""

    row: int  # of the step's logits
    position: int  # where the token will stand
    history: History  # what stands before it

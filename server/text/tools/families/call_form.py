"""What a family's form of tool calls is: one row of `form_table.py`."""

import re
from dataclasses import dataclass
from enum import Enum

_MARK = re.compile(r"<[^>\n]*>|\[[A-Z_]+\]")


class Arguments(Enum):
    """How arguments are written."""

    JSON = "json"
    XML = "xml"  # <parameter=KEY>VALUE</parameter> ... </function>
    DSML = "dsml"  # <｜DSML｜parameter name="KEY" string="true">VALUE</｜DSML｜parameter> ...
    PAIRS = "pairs"  # <arg_key>KEY</arg_key><arg_value>VALUE</arg_value> ... </tool_call>
    GEMMA = "gemma"  # KEY:VALUE,...}
    PYTHON = "python"  # KEY=VALUE, ...)


class CallIds(Enum):
    """What a call's id looks like."""

    ANY = "any"
    NINE = "nine"  # letters and digits, as Mistral's templates demand
    COUNTED = "counted"  # functions.NAME:INDEX, as Kimi's templates write them


@dataclass(frozen=True, slots=True, kw_only=True)
class CallForm:
    """`starts`, `again`, `tail` and `close` are patterns that are read; the others are written."""

    name: str
    signs: tuple[str, ...]  # a template with one of these writes this form
    also: str = ""  # if this stands in it too
    arguments: Arguments
    starts: tuple[str, ...]  # up to the arguments of the first call, anywhere in the text
    only_first: bool = False  # a start counts at the beginning of an answer alone
    again: tuple[str, ...] = ()  # up to the arguments of another call, behind one's tail
    tail: str = ""  # behind the arguments
    close: str = ""  # behind the last tail
    open_text: str = ""  # in front of the first call
    head_text: str  # from there to the arguments; NAME stands for the name
    tail_text: str = ""
    between_text: str = ""  # two calls
    close_text: str = ""
    not_text: str = ""  # a text that calls nothing does not begin with this character
    ids: CallIds = CallIds.ANY

    @property
    def mark(self) -> str:
        """What the first call begins with, where that is a mark: many models have a token for it,
        which stands for nothing else."""
        found = _MARK.match(self.open_text or self.head_text)
        return found[0] if found else ""

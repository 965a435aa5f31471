"""One setting: a field of a frozen dataclass, and beside its default what people are told of it.

The command line, the THIRDEYE_* variables, `--help`, docs/settings.md and what the engine is told
derive from these fields. Nothing heavy is imported here: `--help` has half a second.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar

T = TypeVar("T")
ARGUMENTS = ("model", "more_models")  # by their place, without a flag
NOTHING = (None, "", ())  # a default that is not worth showing


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be, and how it is shown."""

    text: str
    choices: Mapping[str, str] = field(default_factory=dict)  # each word, and what it means
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    pattern: str | None = None  # of each item, where there are several
    check: Callable[[Any], Any] | None = None  # of each item; raises ValueError with the reason
    unit: str = ""  # the placeholder of a value in --help
    shown: str = ""  # the default in words, where the model or the machine decides it
    letter: str = ""  # a short flag
    is_common: bool = False  # people meet it first


class Group(Protocol):
    """A frozen dataclass of settings that belong together."""

    title: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table."""

    name: str
    type: Any
    default: object
    group: str
    rule: Rule

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "THIRDEYE_" + self.name.upper()

    @property
    def is_many(self) -> bool:
        """A flag that is repeated, a variable with commas between."""
        return isinstance(self.default, tuple)

    @property
    def shown_default(self) -> str:
        if self.rule.shown or self.default in NOTHING:
            return self.rule.shown
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    @property
    def shown_range(self) -> str:
        """Of a number: `1 to 4096`, `above 0`. Empty if it has none."""
        rule = self.rule
        low = rule.at_least if rule.above is None else rule.above
        if low is None:
            return ""
        if rule.above is None and rule.at_most is not None:
            return f"{low:g} to {rule.at_most:g}"
        most = "" if rule.at_most is None else f", at most {rule.at_most:g}"
        return f"{'at least' if rule.above is None else 'above'} {low:g}{most}"


def setting(default: T, text: str, *, is_secret: bool = False, **rule: Any) -> T:
    """A field of a group; `rule` is as in `Rule`. A secret one is left out of the group's repr."""
    metadata = {"rule": Rule(text, **rule)}
    return field(default=default, repr=not is_secret, metadata=metadata)


def settings_of(group: type[Group]) -> Iterator[Setting]:
    """The rows of one group, in order."""
    for one in fields(group):
        yield Setting(one.name, one.type, one.default, group.title, one.metadata["rule"])

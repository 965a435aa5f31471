"""A model of the hub as a person types it: `org/name` or `org/name:Q4_K_M`."""

import re
from dataclasses import dataclass

PART = r"[A-Za-z0-9][\w.-]{0,95}"
HUB_NAME = re.compile(
    rf"(?P<repository>{PART}/{PART})(?::(?P<quantization>[\w.-]{{1,40}}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class HubName:
    """`file` is a GGUF file's path in the repository, or its last part. `revision` is a branch, a
    tag or a commit; None is the main branch."""

    repository: str
    quantization: str | None = None
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        """What to type to get it, but for the flags."""
        return self.repository + (f":{self.quantization}" if self.quantization else "")

    @property
    def pull_command(self) -> str:
        """What fetches it, or repairs what is here."""
        flags = f" --revision {self.revision}" if self.revision else ""
        flags += f" --hf-file {self.file}" if self.file else ""
        return f"thirdeye pull {self}{flags}"


def parse_hub_name(
    spec: str, file: str | None = None, revision: str | None = None
) -> HubName | None:
    """None if it does not look like one."""
    match = HUB_NAME.fullmatch(spec)
    if match is None or spec.endswith(".gguf"):
        return None
    return HubName(match["repository"], match["quantization"], file, revision)

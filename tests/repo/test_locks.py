"""The lock files say what is installed, and nothing about where from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def pinned(name: str) -> dict[str, str]:
    """Return name -> version of the entries that hold on Python 3.11 and 3.12 alike or on either."""
    text = (ROOT / name).read_text()
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", text, flags=re.M))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_has_a_hash_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=[A-Za-z0-9_.-]+==)", text, flags=re.M)[1:]
    assert len(entries) > 100
    without = [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry]
    assert without == []
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links", text)


def test_the_locks_fulfil_the_bounds_of_pyproject_and_agree_with_each_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, dev = pinned(LOCKS[0]), pinned(LOCKS[1])
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(run[requirement.name]), text
    for text in project["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(dev[requirement.name]), text
    assert {name: dev.get(name) for name in run} == run


def bound(name: str) -> Requirement:
    """Return the requirement of that name in pyproject."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return next(item for item in map(Requirement, project["dependencies"]) if item.name == name)


@pytest.mark.parametrize(
    ("name", "refused", "peer", "until"),
    [
        (
            "fastapi",
            "0.151.0",
            "prefect",
            "3.9",
        ),  # deploy --all ends in a 422, later the server does not import
        ("sqlalchemy", "2.1.0", "prefect", "3.9"),  # the scheduler cannot evaluate its bulk statement
    ],
)
def test_a_ceiling_stands_until_the_peer_that_needs_it_is_moved(
    name: str, refused: str, peer: str, until: str
) -> None:
    """Fails once `peer` reaches `until`: then try the newer version and lift or renew the ceiling."""
    assert not bound(name).specifier.contains(refused)
    assert Version(pinned(LOCKS[0])[peer]) < Version(until)

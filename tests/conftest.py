"""Fixtures every room shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from tasks.settings import Settings

pytest_plugins = ["tests.services"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Let no fit use more than one thread: two workers share two cores."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A Prefect API for this session, started once; engine tests ask for it."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose whole state lives in this test's folder."""
    return Settings(state_dir=tmp_path / "state", threads=1)

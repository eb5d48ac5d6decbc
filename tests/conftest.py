"""Fixtures every room shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.settings import Settings

pytest_plugins = ["tests.services"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose whole state lives in this test's folder."""
    return Settings(state_dir=tmp_path / "state", threads=1)

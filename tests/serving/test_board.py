"""Boards as the app shows them: the newest written one, from the one folder, in a frame of rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from serving.access import may
from serving.routes import board
from tasks.core.errors import RegistryError
from tasks.settings import Settings
from tests.serving.running import running


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    app = FastAPI()
    app.include_router(board.routes(cast("Any", SimpleNamespace(settings=settings))))
    with running(app) as found:
        yield found


def keep(settings: Settings, name: str, text: str, model: str = "churn") -> None:
    path = Path(settings.artifact_root, "reports", model, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_newest_written_board_is_shown_with_its_reports_beside_it(
    client: httpx.Client, settings: Settings
) -> None:
    keep(settings, "board.html", "old")
    keep(settings, "board.html", "new")
    name = "drift/20260105T000000Z_20260112T000000Z.html"
    keep(settings, name, "report")
    keep(settings, "fleet.html", "all", model="_fleet")
    found = client.get("/dashboard/churn", follow_redirects=True)
    assert (found.status_code, found.text) == (200, "new")
    assert client.get(found.url.join(name)).text == "report"
    fleet = client.get("/dashboard", follow_redirects=True)
    assert fleet.text == "all"
    assert client.get(fleet.url.join("../churn/board.html")).text == "new"  # as its cards lead there


def test_a_page_that_was_never_written_says_what_writes_it(client: httpx.Client) -> None:
    found = client.get("/dashboard/churn", follow_redirects=True)
    assert found.status_code == 404
    assert "python flows/monitor.py --model churn" in found.text
    assert "Not written yet" in client.get("/dashboard", follow_redirects=True).text


@pytest.mark.parametrize("name", ["board.html", "review-2026-10.html"])
def test_no_page_may_load_call_or_send_anything(client: httpx.Client, settings: Settings, name: str) -> None:
    keep(settings, "board.html", "page")
    headers = client.get(f"/dashboard/churn/{name}").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox allow-scripts" in policy
    assert "frame-ancestors 'none'" in policy
    assert "connect-src" not in policy  # default-src holds for it: nothing
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "churn/../../mask.key", "churn/..%2f..%2fmask.key", "%2e%2e/mask.key", "churn/%2fetc%2fpasswd",
        "churn/board.html%00", "churn/board.html%0a", "..%5c..%5cmask.key",
        "churn/drift/..%2f..%2fboard.html",
        "<script>", "churn/<script>alert(1)</script>", "a" * 3000, "churn/board.json", "_fleet/../churn",
    ],
)  # fmt: skip
def test_no_address_leads_out_of_the_folder_of_reports(
    client: httpx.Client, settings: Settings, path: str
) -> None:
    settings.masking_key()
    keep(settings, "board.json", "{}")
    found = client.get(f"/dashboard/{path}", follow_redirects=True)
    assert found.status_code == 404
    assert "<script>" not in found.text
    assert settings.masking_key().decode() not in found.text


def test_a_place_that_does_not_answer_is_a_503_that_tells_nothing_of_it(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> bytes:
        raise RegistryError("s3://secret-bucket that does not answer")

    monkeypatch.setattr(board, "read_page", broken)
    found = client.get("/dashboard/churn/board.html")
    assert found.status_code == 503
    assert "secret-bucket" not in found.text


def test_boards_are_for_admins_only() -> None:
    for path in ("/dashboard", "/dashboard/churn", "/dashboard/churn/board.html"):
        assert not may("predict", "GET", path)
        assert not may("label", "GET", path)
        assert may("admin", "GET", path)

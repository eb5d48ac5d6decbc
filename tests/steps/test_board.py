"""Boards and reviews from a store that is full, empty, hostile or long."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from tasks import board as boards
from tasks.board import write_board, write_fleet_board, write_fleet_page, write_review
from tasks.core.board.facts import Board, Line, stamp
from tasks.core.board.figures import figures_of
from tasks.core.errors import SpecError, StoreError
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store.board import board_facts
from tasks.store.engine import open_store
from tests.boards import DAY, HOSTILE, NOW, T0, WEEK, fill, more, week
from tests.make import make_spec


@pytest.fixture
def here(settings: Settings) -> Settings:
    return settings


class Page(HTMLParser):
    """What a browser would load and run of a page, and every anchor and link of it."""

    def __init__(self, content: str):
        super().__init__()
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images = 0
        self.policy = ""
        self._runs = False
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._runs = tag == "script" and given.get("type") != "application/json"
        self.scripts += [""] if self._runs else []
        self.images += tag == "img"
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if tag == "a" else []
        self.loads += [value or "" for name, value in attrs if name in {"src", "srcset"}]
        self.loads += [given.get("href") or ""] if tag == "link" else []
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._runs = False

    def handle_data(self, data: str) -> None:
        if self._runs:
            self.scripts[-1] += data


def digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def written(here: Settings, spec: ModelSpec | None = None) -> Path:
    page = write_board.fn(spec or make_spec(), as_of=NOW, settings=here)
    assert page is not None
    return page


def test_a_board_is_one_light_file_that_loads_nothing_and_runs_our_scripts_only(here: Settings) -> None:
    fill(open_store(here))
    more(open_store(here))
    path = written(here)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path == here.root / "board" / "churn" / "board.html"
    assert len(text) < 6_000_000
    assert page.loads == ["data:,"]
    assert len(page.scripts) == 2
    assert {f"'sha256-{digest(script)}'" for script in page.scripts} <= set(re.split(r"[ ;]+", page.policy))
    assert "default-src 'none'" in page.policy
    assert "unsafe-inline" not in page.policy.split("script-src")[1].split(";")[0]
    assert "below 0.76" in text
    assert "99.9 %" in text


def test_every_link_inside_a_board_has_its_target_and_a_drift_report_is_linked_where_it_is_kept(
    here: Settings,
) -> None:
    fill(open_store(here))
    reports = Path(here.artifact_root, "reports", "churn")
    (reports / "drift").mkdir(parents=True)
    (reports / "drift" / f"{stamp(week(2))}.html").write_text("report")
    page = written(here)
    for path in (page, reports / "board.html"):
        found = Page(path.read_text(encoding="utf-8"))
        inside = [link[1:] for link in found.links if link.startswith("#")]
        assert inside
        assert set(inside) <= set(found.ids)
        outside = [link for link in found.links if not link.startswith("#")]
        assert [(path.parent / link).read_text() for link in outside] == ["report"]
        figures = json.loads(re.search(r'id="figures">(.*?)</script>', path.read_text())[1])  # type: ignore[index]
        points = {one for trace in figures["score"]["data"] for one in trace.get("customdata", [])}
        assert points
        assert points <= set(found.ids)
    assert not list(page.parent.glob(".*"))


def test_hostile_words_stay_words_on_every_page(here: Settings) -> None:
    engine = open_store(here)
    fill(engine, text=HOSTILE)
    fill(engine, model=HOSTILE, text=HOSTILE)
    spec = make_spec(label={"column": HOSTILE, "maturity": "2d"})
    pages = [
        written(here, spec),
        write_fleet_board.fn(as_of=NOW, settings=here),
        write_review.fn(spec, "2026-10", as_of=NOW, settings=here),
    ]
    for path, scripts in zip(pages, (2, 0, 2), strict=True):
        page = Page(path.read_text(encoding="utf-8"))
        assert (len(page.scripts), page.images, page.loads) == (scripts, 0, ["data:,"]), path
    assert "<script" not in pages[2].with_suffix(".md").read_text().replace("\\<script", "")


def test_an_empty_store_gives_pages_that_say_what_is_missing(here: Settings) -> None:
    board = written(here).read_text(encoding="utf-8")
    assert "Nothing serves" in board
    assert board.count("not measured yet") >= 6
    assert len(board) < 100_000  # without a figure there is no charting library either
    fleet = write_fleet_board.fn(as_of=NOW, settings=here).read_text(encoding="utf-8")
    assert "Nothing is on record yet" in fleet
    review = write_review.fn(make_spec(), as_of=NOW, settings=here)
    assert review.name == "review-2026-10.html"
    assert "could be judged" in review.read_text(encoding="utf-8")


def test_one_window_is_a_board_already(here: Settings) -> None:
    fill(open_store(here), windows=1)
    text = written(here).read_text(encoding="utf-8")
    assert 'id="chart-score"' in text
    assert "0.78 to 0.82" in text


def test_a_board_of_many_windows_stays_light_and_shows_the_newest() -> None:
    hour = timedelta(hours=1)
    lines = tuple(
        Line(
            "performance", Window(T0 + n * hour, T0 + (n + 1) * hour), 1, "ok", {"value": 0.8, "promise": 0.8}
        )
        for n in range(500)
    )
    figures = figures_of(Board("churn", NOW, lines=lines))
    assert len(figures["score"]["data"][-1]["x"]) == 500
    assert len(json.dumps(figures)) < 500_000


def test_writing_a_board_again_gives_the_same_page(here: Settings) -> None:
    fill(open_store(here))
    first = written(here).read_bytes()
    assert written(here).read_bytes() == first


def test_a_board_of_the_past_shows_nothing_of_what_came_later(here: Settings) -> None:
    engine = open_store(here)
    fill(engine)
    past = board_facts(engine, "churn", as_of=T0 + 2 * WEEK, settings=here)
    assert {one.window.end for one in past.lines} == {week(0).end, week(1).end}
    assert past.troubles == ()
    assert board_facts(engine, "churn", as_of=T0 - 2 * DAY, settings=here).champion is None


def test_a_board_that_cannot_be_written_is_told_in_the_log_and_fails_no_run(
    here: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(open_store(here))
    before = written(here).read_bytes()
    for err in (
        OSError("full"),
        StoreError("a file that is gone", "it"),
        OperationalError("SELECT", {}, Exception()),
    ):
        monkeypatch.setattr(boards, "gather", failing(err))
        assert write_board.fn(make_spec(), as_of=NOW, settings=here) is None
    assert (here.root / "board" / "churn" / "board.html").read_bytes() == before
    said = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert [text.partition("written: ")[2][:16] for text in said] == [
        "OSError",
        "found a file tha",
        "OperationalError",
    ]
    monkeypatch.setattr(boards, "gather", failing(ValueError()))
    with pytest.raises(ValueError):
        write_board.fn(make_spec(), as_of=NOW, settings=here)


def failing(err: Exception) -> Any:
    def fails(*_: object, **__: object) -> None:
        raise err

    return fails


def test_a_month_that_has_not_begun_has_no_review(here: Settings) -> None:
    with pytest.raises(SpecError, match="a month that has begun"):
        write_review.fn(make_spec(), "2027-01", as_of=NOW, settings=here)


def test_the_fleet_page_links_no_name_that_is_no_address(tmp_path: Path) -> None:
    boards = [Board(name, NOW) for name in ("churn", "../keys", HOSTILE, "a/b", "")]
    page = Page(write_fleet_page(boards, tmp_path / "fleet.html", as_of=NOW).read_text(encoding="utf-8"))
    assert page.links == ["../churn/board.html"]
    assert page.policy.split("script-src ")[1].startswith("'none'")

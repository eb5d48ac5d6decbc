"""Report pages that open offline, and say everything."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tasks import reports
from tasks.core.replay.advice import advise
from tasks.core.replay.advice_text import advice_sentence
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tasks.core.replay.summary import Summary, WindowResult
from tasks.replay.show import show_backtest
from tests.backtests import made_backtest
from tests.make import make_spec

START = datetime(2025, 12, 22, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def summary(text: str = "", events: tuple[str, ...] = ("customer_age is missing",)) -> Summary:
    first = WindowResult(
        START, START + timedelta(days=14), 2000, 0.81, 1, "ok", "SKIP",
        drift="ok", performance="ok", never_score=0.8, planted=text, planted_note=text, drifted=(text,),
    )  # fmt: skip
    second = WindowResult(
        START + timedelta(days=14), START + timedelta(days=28), 1234, None, 1, "undecided", "BLOCK",
        outcome="blocked", events=(*events, text),
    )  # fmt: skip
    return Summary(text or "churn", 12.3, (first, second), metric="roc_auc")


class Page(HTMLParser):
    """Collects what a browser would load, and the text outside scripts and styles."""

    def __init__(self, content: str):
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0
        self.images = 0
        self.text = ""
        self._silent = False
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent = tag in {"script", "style"}
        self.scripts += tag == "script"
        self.images += tag == "img"
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "srcset"}]

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data


def test_the_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    path = reports.write_report(summary(), tmp_path / "new" / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.loads == ["data:,"]
    assert sorted(item.name for item in path.parent.iterdir()) == ["report.html", "summary.json"]
    assert "@import" not in path.read_text(encoding="utf-8")[:20_000]


def test_the_report_tells_every_window_and_the_first_paragraph(tmp_path: Path) -> None:
    found = summary()
    text = " ".join(
        Page(reports.write_report(found, tmp_path / "report.html").read_text("utf-8")).text.split()
    )
    assert " ".join(found.sentences()) in text
    assert "22 Dec 2025 – 5 Jan 2026" in text
    assert "5 – 19 Jan 2026" in text
    assert "1,234" in text
    assert "customer_age is missing" in text


def test_summary_json_beside_the_report_is_the_summary(tmp_path: Path) -> None:
    reports.publish_replay.fn(summary(), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text("utf-8")) == summary().to_json()


def test_nothing_in_a_summary_can_become_markup_or_script(tmp_path: Path) -> None:
    path = reports.write_report(summary(HOSTILE), tmp_path / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.scripts == 2, "plotly's and ours"
    assert page.images == 0
    assert HOSTILE in page.text


def test_the_figure_in_the_page_is_json_with_the_scores(tmp_path: Path) -> None:
    content = reports.write_report(summary(), tmp_path / "report.html").read_text("utf-8")
    found = re.search(r"const figure = (\{.*\});\n", content)
    assert found
    assert json.loads(found[1])["data"][1]["y"] == [0.81, None]


def test_an_empty_replay_still_has_a_page(tmp_path: Path) -> None:
    content = reports.write_report(Summary("churn", 0.0), tmp_path / "report.html").read_text("utf-8")
    assert "No window of churn was served" in Page(content).text


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: Any) -> None:
    path = reports.write_report(summary(), tmp_path / "report.html")
    old = path.read_bytes()
    monkeypatch.setattr(Path, "replace", _disk_full)
    with pytest.raises(OSError, match="disk full"):
        reports.write_report(summary("other"), path)
    assert path.read_bytes() == old


def _disk_full(*_: object) -> None:
    raise OSError("disk full")


def backtest_page(tmp_path: Path, result: Backtest) -> tuple[Page, str, dict[str, Any]]:
    advice = advise(result, make_spec(metric="accuracy"))
    path = reports.publish_backtest.fn(result, advice, tmp_path)
    content = path.read_text("utf-8")
    return Page(content), content, json.loads((tmp_path / "backtest.json").read_text())


def test_the_backtest_page_and_json_say_what_is_advised_and_name_every_policy(tmp_path: Path) -> None:
    result = made_backtest()
    page, content, figures = backtest_page(tmp_path, result)
    text = " ".join(page.text.split())
    assert page.loads == ["data:,"]
    assert advice_sentence(advise(result, make_spec(metric="accuracy"))) in text
    assert "retrain: {price: 0.4}" in text
    assert all(policy.name in text for policy in result.policies)
    assert [policy["name"] for policy in figures["policies"]] == [policy.name for policy in result.policies]
    assert figures["policies"][4]["mean_score"] == 0.75
    assert figures["advice"]["advised"] == "loop"
    drawn = re.findall(r'show\("([a-z]+)", (\{.*\})\);\n', content)
    assert [name for name, _ in drawn] == ["scores", "staleness"]
    scores = json.loads(drawn[0][1])["data"]
    assert [trace["name"] for trace in scores[:3]] == ["never", "every 4 windows", "loop"]
    assert all(f'id="{name}"' in content for name in ("chart", "scores", "staleness"))


def test_a_backtest_without_scores_per_window_still_has_a_page(tmp_path: Path) -> None:
    policies = (PolicyResult("never", 0.6, 0, 0.4), PolicyResult("loop", 0.7, 9, 3.0))
    page, content, figures = backtest_page(tmp_path, Backtest("elec2", "accuracy", 10, policies))
    assert "it held a mean accuracy of 0.700 with 9 retrainings" in " ".join(page.text.split())
    assert 'show("' not in content.replace('show("chart"', "")
    assert figures["staleness_curve"] == []


def test_nothing_in_a_backtest_can_become_markup_or_script(tmp_path: Path) -> None:
    result = replace(made_backtest(), model=HOSTILE, metric=HOSTILE)
    page, _, _ = backtest_page(tmp_path, result)
    assert (page.scripts, page.images) == (2, 0)
    assert HOSTILE in page.text


@pytest.mark.parametrize("windows", [1, 3, 84])
def test_the_terminal_shows_every_policy_and_the_block_to_copy(
    windows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    result, spec = made_backtest(windows=windows), make_spec(metric="accuracy")
    advice = advise(result, spec)
    show_backtest(result, advice, Path("there"))
    text = capsys.readouterr().out
    for policy in result.policies:
        (line,) = [row.split() for row in text.splitlines() if row.strip().startswith(f"{policy.name}  ")]
        held = line[len(policy.name.split()) :]
        assert held[0] == f"{policy.mean_score:.3f}"
        assert held[2:5] == [str(policy.retrainings), str(policy.promotions), str(policy.fits)]
    assert advice.yaml() in text
    assert advice_sentence(advice) in text
    assert str(Path("there") / "backtest.json") in text

"""Report pages that open offline, and artifacts that say what happened."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tasks import publish
from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.verdict import judge
from tasks.core.evaluation.gate import GateDecision
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.policy.decision import Evidence, decide
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tasks.core.replay.summary import Summary, WindowResult
from tests.make import make_frame, make_spec

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
    path = publish.write_report(summary(), tmp_path / "new" / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.loads == ["data:,"]
    assert sorted(item.name for item in path.parent.iterdir()) == ["report.html", "summary.json"]
    assert "@import" not in path.read_text(encoding="utf-8")[:20_000]


def test_the_report_tells_every_window_and_the_first_paragraph(tmp_path: Path) -> None:
    found = summary()
    text = " ".join(
        Page(publish.write_report(found, tmp_path / "report.html").read_text("utf-8")).text.split()
    )
    assert " ".join(found.sentences()) in text
    assert "22 Dec 2025 – 5 Jan 2026" in text
    assert "5 – 19 Jan 2026" in text
    assert "1,234" in text
    assert "customer_age is missing" in text


def test_summary_json_beside_the_report_is_the_summary(tmp_path: Path) -> None:
    publish.publish_replay.fn(summary(), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text("utf-8")) == summary().to_json()


def test_nothing_in_a_summary_can_become_markup_or_script(tmp_path: Path) -> None:
    path = publish.write_report(summary(HOSTILE), tmp_path / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.scripts == 2, "plotly's and ours"
    assert page.images == 0
    assert HOSTILE in page.text


def test_the_figure_in_the_page_is_json_with_the_scores(tmp_path: Path) -> None:
    content = publish.write_report(summary(), tmp_path / "report.html").read_text("utf-8")
    found = re.search(r"const figure = (\{.*\});\n", content)
    assert found
    assert json.loads(found[1])["data"][1]["y"] == [0.81, None]


def test_an_empty_replay_still_has_a_page(tmp_path: Path) -> None:
    content = publish.write_report(Summary("churn", 0.0), tmp_path / "report.html").read_text("utf-8")
    assert "No window of churn was served" in Page(content).text


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: Any) -> None:
    path = publish.write_report(summary(), tmp_path / "report.html")
    old = path.read_bytes()
    monkeypatch.setattr(Path, "replace", _disk_full)
    with pytest.raises(OSError, match="disk full"):
        publish.write_report(summary("other"), path)
    assert path.read_bytes() == old


def _disk_full(*_: object) -> None:
    raise OSError("disk full")


def test_the_backtest_page_and_json_name_every_policy(tmp_path: Path) -> None:
    policies = (PolicyResult("never", 0.6, 0, 0.4), PolicyResult("loop", 0.7, 9, 3.0))
    path = publish.publish_backtest.fn(Backtest("elec2", "accuracy", 10, policies), tmp_path)
    text = Page(path.read_text("utf-8")).text
    assert "The loop held a mean accuracy of 0.700 with 9 retrainings" in text
    assert [p["name"] for p in json.loads((tmp_path / "backtest.json").read_text())["policies"]] == [
        "never",
        "loop",
    ]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Artifacts that would have been sent to the Prefect API."""
    sent: list[dict[str, str]] = []
    monkeypatch.setattr(publish, "create_markdown_artifact", lambda **artifact: sent.append(artifact))
    return sent


@dataclass(frozen=True)
class Compared:
    decision: GateDecision
    metrics: dict[str, float]
    champion_metrics: dict[str, float] = field(default_factory=dict)


def test_a_comparison_shows_both_versions_and_a_dash_where_there_is_none(
    published: list[dict[str, str]],
) -> None:
    nan = float("nan")
    gate = GateDecision("promote", ("better than a guess by 0.3",), 0.8123, nan, 0.3, 0.25, 0.35, 1600)
    spec = make_spec(name="Churn_EU.v2")
    assert publish.publish_comparison.fn(spec, Compared(gate, {"accuracy": 0.7})) == "churn-eu-v2-comparison"
    text = published[0]["markdown"]
    assert "| roc_auc | 0.8123 | – |" in text
    assert "| accuracy | 0.7 | – |" in text
    assert "0.3 (0.25 to 0.35) on 1,600 rows" in text
    assert "nan" not in text


def test_a_drift_table_names_what_moved_first(published: list[dict[str, str]]) -> None:
    spec, frame = make_spec(), make_frame(2000)
    reference = build_reference(frame, spec)
    moved = make_frame(2000, seed=1).assign(spend=lambda f: f["spend"] * 3)
    verdict = judge(reference, profile_frame(moved, reference), spec)
    publish.publish_drift.fn(spec, verdict)
    rows = [line for line in published[0]["markdown"].splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| spend |")
    assert "| drift |" in rows[2]
    assert published[0]["key"] == "churn-drift"


def test_a_decision_record_holds_reasons_id_and_evidence(published: list[dict[str, str]]) -> None:
    spec = make_spec()
    decision = decide(Evidence(START, data_ok=False, data_reason="x|y ``` is gone"), spec)
    publish.publish_decision.fn(spec, decision)
    text = published[0]["markdown"]
    assert "BLOCK (data)" in text
    assert "x\\|y" in text
    assert decision.id in text
    assert text.count("```") == 2, "a fence in a reason must not end ours"
    evidence = json.loads(text.split("```json\n")[1].split("```")[0])
    assert evidence["data_ok"] is False


@dataclass(frozen=True)
class Ended:
    action: str = "kept"
    attempt: str = "train-decay-1"

    def sentence(self) -> str:
        return "kept version 3: not better than the champion"


def test_the_end_of_an_attempt_is_published_under_the_same_key(published: list[dict[str, str]]) -> None:
    assert publish.publish_decision.fn(make_spec(), Ended()) == "churn-decision"
    assert "kept version 3: not better than the champion" in published[0]["markdown"]
    assert "train-decay-1" in published[0]["markdown"]


def test_performance_without_labels_shows_dashes_and_the_reason(published: list[dict[str, str]]) -> None:
    nan = float("nan")
    verdict = PerformanceVerdict("undecided", "no labels yet", nan, nan, nan, 0.8, 0.78, 0)
    publish.publish_performance.fn(make_spec(), verdict)
    assert "no labels yet" in published[0]["markdown"]
    assert "| realised roc\\_auc | – |" in published[0]["markdown"].replace("roc_auc", "roc\\_auc")
    assert "nan" not in published[0]["markdown"]


@pytest.mark.parametrize(
    "name", ["publish_validation", "publish_drift", "publish_decision", "publish_replay"]
)
def test_every_task_states_its_retries_timeout_and_cache_policy(name: str) -> None:
    made = getattr(publish, name)
    assert made.timeout_seconds
    assert made.cache_policy == publish.NO_CACHE

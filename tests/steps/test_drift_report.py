"""The drift report: one page per window that opens offline, says everything and runs nothing of others."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks import reports
from tasks.core.drift.matters.harm import Harm
from tasks.core.drift.results import Comparison, DriftVerdict
from tasks.core.drift.shape import Shape
from tasks.core.records.drift_page import drift_page
from tasks.core.records.drift_rows import feature_rows
from tasks.settings import Settings
from tasks.store import checks
from tasks.store.engine import open_store
from tests.drifted import HOSTILE, checked, day, drifted_spec, many, told

SPEC = drifted_spec()


class Page(HTMLParser):
    """Collects what a browser would load or run, and the text outside scripts and styles."""

    def __init__(self, content: str):
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0
        self.handlers: list[str] = []
        self.titles: list[str] = []
        self.text = ""
        self._silent = False
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent = tag in {"script", "style"}
        self.scripts += tag == "script"
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.titles += [value or "" for name, value in attrs if name == "title"]

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += " ".join(data.split()) + " "


def written(verdict: DriftVerdict, tmp_path: Path) -> str:
    page = drift_page(SPEC, verdict, day(9), version=3)
    return reports.write_drift_report(page, tmp_path / "drift.html").read_text("utf-8")


def record(settings: Settings, place: int, verdict: DriftVerdict, version: int = 3) -> None:
    checks.record(
        open_store(settings), model="churn", kind="drift", window=day(place), version=version,
        outcome=verdict.outcome, summary=verdict.to_dict(), features=feature_rows(verdict), at=day(place).end,
    )  # fmt: skip


def test_a_report_stands_below_the_artifact_root_once_per_window(settings: Settings) -> None:
    for place in range(8):
        record(settings, place, checked(1.0 if place > 5 else 0.0))
    verdict = told(1.0)
    record(settings, 8, verdict)
    link = reports.publish_drift_report.fn(SPEC, verdict, day(8), settings=settings)
    assert link == f"{settings.artifact_root}/reports/churn/drift/20260113T000000Z_20260114T000000Z.html"
    first = Path(link).read_bytes()
    assert reports.publish_drift_report.fn(SPEC, verdict, day(8), settings=settings) == link
    assert Path(link).read_bytes() == first, "the same verdict and history give the same page"
    found = [path.name for path in settings.root.rglob("*") if path.is_file() and path.suffix == ".html"]
    assert len(found) == 1
    assert len(first) < 300_000


def test_the_report_tells_of_earlier_windows_whatever_the_version(settings: Settings) -> None:
    for place in range(8):
        if place != 4:
            record(settings, place, checked(1.0 if place > 5 else 0.0), version=2 if place < 3 else 3)
    link = reports.publish_drift_report.fn(SPEC, told(1.0), day(8), settings=settings)
    page = Page(Path(link).read_text("utf-8"))
    assert "3 of the last 3 windows drifted, so the policy decides now" in page.text
    assert "Fri 9 Jan 2026: no check on record" in page.titles
    assert any(title.startswith("Sun 11 Jan 2026: drift in ") for title in page.titles)
    assert "v3" in page.text, "where the reference of another version took over"


def test_a_first_check_has_a_report_too(settings: Settings) -> None:
    link = reports.publish_drift_report.fn(SPEC, checked(0.0), day(0), settings=settings)
    text = Page(Path(link).read_text("utf-8")).text
    assert "They did not drift" in text
    assert "What changed" not in text


def test_the_page_loads_and_runs_nothing_but_its_own(tmp_path: Path) -> None:
    page = Page(written(told(1.0), tmp_path))
    assert {load for load in page.loads if not load.startswith("#at-")} == {"data:,"}
    assert page.scripts == 1
    assert "@import" not in written(told(1.0), tmp_path)
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", written(told(1.0), tmp_path))


def test_the_page_says_words_numbers_limits_and_how_they_came_about(tmp_path: Path) -> None:
    verdict = told(1.0)
    text = Page(written(verdict, tmp_path)).text
    for sentence in drift_page(SPEC, verdict, day(9)).story:
        assert sentence in text
    assert "Learnt from 90 days of the champion's reference." in text
    assert "0.688 to 0.738 its interval" in text
    assert "concept drift" in text
    assert "they agree in 1 of 2 cases" in text
    assert "1840" in text
    assert "0.0042" in text


def test_features_that_matter_most_to_the_model_stand_first(tmp_path: Path) -> None:
    page = drift_page(SPEC, told(1.0), day(9))
    assert [line.name for line in page.features[:3]] == ["spend", "plan", "calls"]
    assert page.features[0].impact == pytest.approx(0.124)
    assert {line.name for line in page.features} == {
        "the model's score" if f.feature == "__score__" else f.feature for f in checked(1.0).features
    }
    assert drift_page(SPEC, told(1.0, impacts=()), day(9)).ranked is False


def test_no_category_name_reason_or_limit_becomes_markup_or_script(tmp_path: Path) -> None:
    verdict = told(1.0)
    features = tuple(
        replace(f, feature=HOSTILE if n == 0 else f'"{n} onload=alert(1) x="', reason=HOSTILE)
        for n, f in enumerate(verdict.features)
    )
    shape = Shape(HOSTILE, (HOSTILE, '" onclick="alert(1)'), (0.5, 0.5), (0.9, 0.1))
    harm = Harm("unknown", HOSTILE, 0.5, 0.4, 0.6, 0.7, HOSTILE, HOSTILE)
    hostile = replace(
        verdict, features=features, shapes=(shape,), harm=harm, calibration=HOSTILE, against=HOSTILE,
        drifted=(HOSTILE,), reason=HOSTILE, compared=(Comparison(HOSTILE, HOSTILE, 0.1, None, False),),
    )  # fmt: skip
    page = Page(written(hostile, tmp_path))
    assert page.scripts == 1
    assert page.handlers == []
    assert page.text.count(HOSTILE) >= 6


def test_the_planted_category_of_a_real_check_shows_as_text(tmp_path: Path) -> None:
    shapes = [shape for shape in checked(1.0).shapes if shape.feature == "payment"]
    assert shapes[0].labels[2] == "<script>alert(1)</scrip…"
    page = Page(written(told(1.0, shapes=tuple(shapes)), tmp_path))
    assert page.scripts == 1
    assert "<script>alert(1)</scrip…" in page.text


def test_a_sensitive_feature_shows_numbered_parts_only(tmp_path: Path) -> None:
    verdict = checked(1.0)
    assert "age" in verdict.drifted
    bars = drift_page(SPEC, replace(verdict, shapes=_shape("age")), day(9)).pictures[0].bars
    assert {re.sub(r"\d+", "n", bar.label) for bar in bars} <= {"part n", "missing", "unreadable"}


def _shape(feature: str) -> tuple[Shape, ...]:
    from tasks.core.drift.profile import profile_frame
    from tasks.core.drift.shape import shape_of
    from tests.drifted import KEY, customers, reference

    bins = next(cell for cell in reference().bins if cell.name == feature)
    profile = profile_frame(customers(1500, seed=7, shift=1.0), reference(), key=KEY)
    return (shape_of(bins, reference().profile.features[feature], profile.features[feature]),)


def test_ten_thousand_features_make_a_page_that_opens_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    content = written(many(10_000), tmp_path)
    assert len(content.encode()) < 5_000_000
    assert len(content.encode()) < 400_000
    page = Page(content)
    assert "The 50 worst are shown; 9,950 more, none of them louder, are kept in the store." in page.text
    assert "sensor_00049" in page.text
    assert "sensor_00050" not in page.text


def test_a_window_without_any_judged_feature_has_a_page_that_says_why(tmp_path: Path) -> None:
    text = Page(written(checked(0.0, rows=9), tmp_path)).text
    assert "There is no verdict: 9 rows in the window; at least 50 are needed" in text
    assert "nan" not in text.lower().replace("nanosecond", "")

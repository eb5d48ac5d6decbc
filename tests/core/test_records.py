"""What the run page says: in words, in text drawings, and never as markup from outside."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.drift.shape import Shape
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.records.comparison import comparison_markdown
from tasks.core.records.drawing import gauge, image, interval, shape_svg
from tasks.core.records.performance import performance_markdown
from tasks.core.records.text import Ready, link, table
from tests.make import make_spec

NAN = float("nan")
HOSTILE = '<img src=x onerror=alert(1)> | `x` ](javascript:1) "'
finite = st.floats(-1e9, 1e9)


@dataclass(frozen=True)
class Compared:
    decision: GateDecision
    metrics: dict[str, float]
    champion_metrics: dict[str, float] = field(default_factory=dict)


def gate(low: float, value: float, high: float, *, champion: float = 0.8) -> GateDecision:
    return GateDecision("keep", ("not shown to be better",), 0.81, champion, value, low, high, 1600)


def drawn(text: str) -> str:
    return next(line for line in text.splitlines() if "●" in line and "├─●─┤" not in line)


def test_an_interval_ends_left_and_right_of_the_marks_as_its_numbers_do() -> None:
    line = interval(-0.02, 0.01, 0.04, {-0.05: "┆", 0.0: "│"})
    assert [sign for sign in line if sign in "┆├│●┤"] == ["┆", "├", "│", "●", "┤"]
    beyond = interval(0.01, 0.02, 0.03, {-0.05: "┆", 0.0: "│"})
    assert [sign for sign in beyond if sign in "┆├│●┤"] == ["┆", "│", "├", "●", "┤"]


@given(st.lists(finite, min_size=3, max_size=3), finite)
def test_an_interval_is_one_line_of_a_width_whatever_the_numbers(three: list[float], mark: float) -> None:
    low, value, high = sorted(three)
    line = interval(low, value, high, {mark: "│"})
    assert len(line) == 49
    assert line.count("●") == 1


def test_an_interval_that_is_not_known_is_not_drawn() -> None:
    assert interval(NAN, 0.0, 1.0, {}) == ""


@given(st.floats(0, 1e6) | st.none() | st.just(NAN))
def test_a_gauge_is_full_to_its_middle_exactly_at_the_limit(ratio: float | None) -> None:
    text = gauge(ratio)
    assert len(text) == 13
    assert text[6] == "┃"
    assert text.count("█") == (0 if ratio is None or math.isnan(ratio) else min(12, round(ratio * 6)))


def svg_of(markdown: str) -> ElementTree.Element:
    found = re.search(r"base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found
    return ElementTree.fromstring(base64.b64decode(found[1]))  # noqa: S314 -- our own


def test_the_picture_of_a_shape_has_a_bar_for_each_side_as_long_as_its_share() -> None:
    shape = Shape("plan", ("basic", "pro"), (0.75, 0.25), (0.0, 1.0))
    bars = [
        r for r in svg_of(image(shape_svg(shape), "x")).iter() if r.get("x") == "170" and r.get("y") != "12"
    ]
    assert [round(float(bar.get("width", "0"))) for bar in bars] == [248, 0, 82, 330]
    assert "0% → 100%" not in shape_svg(shape).replace("25% → 100%", "")


@given(st.text(max_size=40))
def test_no_label_can_break_the_picture_or_its_markdown(label: str) -> None:
    markdown = image(shape_svg(Shape(label, (label,), (1.0,), (0.5,))), label)
    assert {element.tag.split("}")[1] for element in svg_of(markdown).iter()} == {"svg", "rect", "text"}
    assert re.fullmatch(r"!\[[^\]\[]*\]\(data:image/svg\+xml;base64,[A-Za-z0-9+/=]+\)", markdown)


def test_the_comparison_draws_the_interval_against_the_margin_and_signs_the_differences() -> None:
    spec = make_spec(gate={"margin": 0.02})
    text = comparison_markdown(spec, Compared(gate(-0.01, 0.005, 0.02), {"f1": 0.6}, {"f1": 0.65}))
    assert [sign for sign in drawn(text) if sign in "┆├│●┤"] == ["┆", "├", "│", "●", "┤"]
    assert "the margin, -0.02" in text
    assert "| f1 | 0.6 | 0.65 | ▼ -0.05 |" in text
    assert "| roc_auc | 0.81 | 0.8 | ▲ +0.01 |" in text


def test_a_first_version_is_compared_with_a_guess_and_without_a_margin() -> None:
    text = comparison_markdown(make_spec(), Compared(gate(0.25, 0.3, 0.35, champion=NAN), {}))
    assert "Difference to a guess: 0.3 (0.25 to 0.35)" in text
    assert [sign for sign in drawn(text) if sign in "┆├│●┤"] == ["│", "├", "●", "┤"]


def test_a_comparison_that_could_not_be_made_draws_nothing() -> None:
    text = comparison_markdown(make_spec(), Compared(gate(NAN, NAN, NAN), {}))
    assert "●" not in text
    assert "nan" not in text


def test_performance_is_drawn_between_limit_and_promise() -> None:
    verdict = PerformanceVerdict("drift", "below", 0.6, 0.55, 0.65, 0.8, 0.76, 900)
    assert [s for s in drawn(performance_markdown(make_spec(), verdict)) if s in "┆├│●┤"] == list("├●┤┆│")


@pytest.mark.parametrize("target", [None, "", "javascript:alert(1)", "/a b", "//evil)(x", "data:text/html,x"])
def test_a_link_leads_only_to_a_page(target: str | None) -> None:
    assert "](" not in link("this", target) or (target == "//evil)(x" and "](" not in link("this", target))


def test_only_what_is_ready_may_hold_markup() -> None:
    row = table(("a",), [(HOSTILE,), (Ready("`x`"),)])
    assert "<img" not in row[2].replace("\\<", "")
    assert row[2].count("|") - row[2].count("\\|") == 2
    assert row[3] == "| `x` |"

"""What an estimate of harm changes in a decision: words and tier, and never what is done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.policy.decision import Decision, decide
from tasks.core.policy.evidence import CheckOutcome, Evidence
from tasks.core.policy.tiers import HARM, incident_of, over
from tasks.core.window import Window
from tests.make import make_spec

T0 = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
SPEC = make_spec(drift={"windows": [2, 3]})
HARMS = [None, "harmful", "harmless", "unknown"]
WHY = "roc_auc is expected at 0.7 [0.68, 0.72], promised 0.8: a loss"


def week(number: int) -> Window:
    return Window(T0 + number * WEEK, T0 + (number + 1) * WEEK)


def drift(*harms: str | None) -> tuple[CheckOutcome, ...]:
    return tuple(
        CheckOutcome(week(place), "drift", "spend moved", harm, WHY if harm else "")
        for place, harm in enumerate(harms)
    )


def decided(*harms: str | None, **facts: object) -> Decision:
    return decide(Evidence(**{"as_of": T0 + 3 * WEEK, "drift": drift(*harms), **facts}), SPEC)


@pytest.mark.parametrize("harm", HARMS)
def test_every_drifted_window_counts_whatever_its_estimate(harm: str | None) -> None:
    assert (decided(harm, harm).kind, decided(harm, harm).cause) == ("TRAIN", "drift")
    assert (decided(harm).kind, decided(harm).cause) == ("SKIP", "none")
    assert decided(harm, harm).id == decided(None, None).id


@pytest.mark.parametrize(
    ("harm", "says", "told"),
    [
        ("harmful", f"without labels a loss is expected: {WHY}", (HARM, "warning")),
        ("harmless", f"no loss is expected, which only labels can confirm: {WHY}", ("drift", "info")),
        ("unknown", "not known to be fine", ("drift", "info")),
        (None, "not known to be fine", ("drift", "info")),
    ],
)
def test_the_estimate_speaks_in_reasons_and_tier(harm, says: str, told: tuple[str, str]) -> None:
    found = decided("harmless", harm)
    assert found.reasons[0].endswith(says)
    assert incident_of(found) == told
    assert found.harm == harm
    held = decided("harmless", harm, new_rows=0)
    assert held.guards == ("new_rows",)
    assert incident_of(held) == told, "a guard forbids the training, not the telling"


def test_realised_performance_outranks_the_estimate() -> None:
    fine = (CheckOutcome(week(1), "ok"),)
    found = decided("harmful", "harmful", performance=fine)
    assert (found.kind, found.cause, found.harm) == ("SKIP", "drift", None)
    assert found.reasons[0].endswith("performance there is within its band, whatever the estimate feared")
    assert incident_of(found) == ("drift", "info")
    assert HARM in over(found)
    fell = (CheckOutcome(week(0), "drift"), CheckOutcome(week(1), "drift"))
    decay = decided("harmless", "harmless", performance=fell)
    assert (decay.cause, incident_of(decay)) == ("decay", ("decay", "warning"))
    assert decay.harm is None


def test_an_estimate_ends_no_incident() -> None:
    assert HARM not in over(decided("harmful", "harmless"))
    assert HARM not in over(decided("harmful", "harmful"))
    assert not {HARM, "drift"} & over(decided("harmful", "harmless", new_rows=0))
    calm = replace(Evidence(T0 + 3 * WEEK), drift=(*drift("harmful"), CheckOutcome(week(1), "ok")))
    assert {HARM, "drift"} <= over(decide(calm, SPEC))


def test_one_harmful_window_is_named_though_nothing_is_done_yet() -> None:
    assert f"without labels a loss is expected: {WHY}" in decided("harmful").sentence()
    assert "expected" not in decided("unknown").sentence()


def test_the_evidence_of_a_decision_keeps_the_estimate_and_old_checks_have_none() -> None:
    kept = decided("harmful", None).evidence["drift"]
    assert (kept[0]["harm"], kept[0]["harm_reason"]) == ("harmful", WHY)
    assert "harm" not in kept[1]


def test_an_unknown_harm_is_refused() -> None:
    with pytest.raises(ValueError, match="harm 'perhaps'"):
        CheckOutcome(week(0), "drift", harm="perhaps")


outcomes = st.lists(
    st.tuples(st.sampled_from(["ok", "warn", "drift", "undecided"]), st.sampled_from(HARMS)), max_size=4
)


@settings(deadline=None, max_examples=60)
@given(outcomes, st.lists(st.sampled_from(["ok", "warn", "drift", "undecided"]), max_size=4))
def test_estimates_never_change_what_is_done(pairs: list[tuple], scores: list[str]) -> None:
    checks = tuple(CheckOutcome(week(n), outcome, "", harm) for n, (outcome, harm) in enumerate(pairs))
    performance = tuple(CheckOutcome(week(n), outcome) for n, outcome in enumerate(scores))
    with_harm = Evidence(T0 + 5 * WEEK, drift=checks, performance=performance)
    without = replace(with_harm, drift=tuple(replace(check, harm=None) for check in checks))
    one, two = decide(with_harm, SPEC), decide(without, SPEC)
    assert (one.kind, one.cause, one.id, one.guards) == (two.kind, two.cause, two.id, two.guards)
    assert over(one) - {HARM} == over(two) - {HARM} or one.cause == "drift"

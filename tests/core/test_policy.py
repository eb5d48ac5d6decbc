from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.policy.decision import (
    CheckOutcome,
    Evidence,
    cause_of,
    decide,
    decision_id,
    wanted_cause,
)
from tasks.core.policy.staleness import Staleness
from tasks.core.policy.tiers import incident_of, over
from tasks.core.window import Window
from tests.make import make_spec

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
LETTERS = {"o": "ok", "w": "warn", "d": "drift", "u": "undecided"}
SPEC = make_spec(
    window={"training": "28d", "check": "7d"},
    drift={"windows": [2, 3]},
    retrain={
        "min_new_rows": 100,
        "cooldown": "12h",
        "budget_per_week": 3,
        "max_age": "60d",
        "futile_limit": 2,
    },
)


def week(number: int) -> Window:
    return Window(T0 + number * WEEK, T0 + (number + 1) * WEEK)


def checks(letters: str, first: int = 0) -> tuple[CheckOutcome, ...]:
    """One check per week from `first` on: o(k), w(arn), d(rift), u(ndecided); a dot is a week without."""
    return tuple(
        CheckOutcome(week(first + i), LETTERS[letter]) for i, letter in enumerate(letters) if letter != "."
    )


def stale(debt: float = 0.1, *, due: str = "", windows: int = 5) -> Staleness:
    """A champion with this debt, of a price of .4."""
    return Staleness(debt, 0.4, 0.2, 0.02, 3.0, 8.0, due, None, windows)  # type: ignore[arg-type]


def evidence(**over: object) -> Evidence:
    """A healthy model after six weeks; keyword arguments replace single facts."""
    facts = {
        "as_of": T0 + 6 * WEEK,
        "data_ok": True,
        "drift": checks("oooooo"),
        "performance": checks("ooooo"),
        "new_rows": 5000,
        "champion_trained": T0,
        "window": week(5),
    }
    return Evidence(**{**facts, **over})


# One line per rule: what is known, what follows.
TABLE = [
    ("a healthy model", {}, "SKIP", "none"),
    ("bad data", {"data_ok": False}, "BLOCK", "data"),
    ("bad data and everything else", {"data_ok": False, "has_champion": False}, "BLOCK", "data"),
    ("bad data before a labelling fault", {"data_ok": False, "label_fault": "x"}, "BLOCK", "data"),
    ("a labelling fault", {"label_fault": "labels all 0"}, "BLOCK", "labels"),
    (
        "a labelling fault beside decay of other windows",
        {"label_fault": "x", "performance": checks("ddd")},
        "TRAIN",
        "decay",
    ),
    (
        "a labelling fault beside a debt",
        {"label_fault": "x", "staleness": stale(due="debt")},
        "TRAIN",
        "staleness",
    ),
    ("a labelling fault told without words", {"label_fault": ""}, "BLOCK", "labels"),
    ("no champion", {"has_champion": False}, "TRAIN", "first"),
    ("data not checked", {"data_ok": None}, "SKIP", "none"),
    ("decay in two of three and the newest", {"performance": checks("ooodd")}, "TRAIN", "decay"),
    ("decay in the first and last of three", {"performance": checks("oodod")}, "TRAIN", "decay"),
    ("decay once", {"performance": checks("ooood")}, "SKIP", "none"),
    ("decay that is over", {"performance": checks("ooddo")}, "SKIP", "none"),
    ("decay too long ago", {"performance": checks("oddood")}, "SKIP", "none"),
    ("decay, then silence", {"performance": checks("ooddu")}, "SKIP", "none"),
    ("decay with silence between", {"performance": checks("oodud")}, "TRAIN", "decay"),
    ("warnings are no decay", {"performance": checks("owwww")}, "SKIP", "none"),
    ("decay beside drift", {"performance": checks("ooodd"), "drift": checks("oooddd")}, "TRAIN", "decay"),
    ("drift where performance is fine", {"drift": checks("oooodd")}, "SKIP", "drift"),
    (
        "drift with no labels at all",
        {"drift": checks("oooodd"), "performance": ()},
        "TRAIN",
        "drift",
    ),
    (
        "drift with silent performance",
        {"drift": checks("oooodd"), "performance": checks("uuuuu")},
        "TRAIN",
        "drift",
    ),
    (
        "drift whose performance was fine before it",
        {"drift": checks("oooodd"), "performance": checks("oooo")},
        "TRAIN",
        "drift",
    ),
    (
        "drift, fine, then silence",
        {"drift": checks("oooodd"), "performance": checks("ooooou")},
        "SKIP",
        "drift",
    ),
    (
        "drift with a warning",
        {"drift": checks("oooodd"), "performance": checks("oooow")},
        "TRAIN",
        "drift",
    ),
    (
        "drift with one decayed window",
        {"drift": checks("oooodd"), "performance": checks("ooood")},
        "TRAIN",
        "drift",
    ),
    ("drift once", {"drift": checks("oooood"), "performance": ()}, "SKIP", "none"),
    ("drift that is over", {"drift": checks("oooddo"), "performance": ()}, "SKIP", "none"),
    ("a debt that is due", {"staleness": stale(0.4, due="debt")}, "TRAIN", "staleness"),
    ("an old champion", {"staleness": stale(due="age")}, "TRAIN", "staleness"),
    ("a calendar", {"staleness": stale(due="calendar")}, "TRAIN", "staleness"),
    ("a debt that is not due", {"staleness": stale(0.39)}, "SKIP", "none"),
    ("a champion of unknown age", {"champion_trained": None}, "SKIP", "none"),
    (
        "decay in a hard spell",
        {"performance": checks("ooodd"), "staleness": stale(0.19)},
        "SKIP",
        "decay",
    ),
    (
        "decay with half of the debt",
        {"performance": checks("ooodd"), "staleness": stale(0.2)},
        "TRAIN",
        "decay",
    ),
    (
        "decay before there is a level to compare with",
        {"performance": checks("ooodd"), "staleness": stale(0.0, windows=1)},
        "TRAIN",
        "decay",
    ),
    (
        "drift whose cost labels have shown",
        {"drift": checks("oooodd"), "performance": (), "staleness": stale(0.3), "judged_until": week(5).end},
        "SKIP",
        "drift",
    ),
    (
        "drift whose cost labels have shown to be due",
        {"drift": checks("oooodd"), "staleness": stale(0.4, due="debt"), "judged_until": week(5).end},
        "TRAIN",
        "staleness",
    ),
    (
        "drift after the last labels",
        {"drift": checks("oooodd"), "performance": (), "staleness": stale(0.3), "judged_until": week(3).end},
        "TRAIN",
        "drift",
    ),
    ("nothing known at all", {"drift": (), "performance": (), "data_ok": None}, "SKIP", "none"),
]


@pytest.mark.parametrize(
    ("facts", "kind", "cause"), [line[1:] for line in TABLE], ids=[line[0] for line in TABLE]
)
def test_the_table_of_decisions_holds(facts: dict[str, object], kind: str, cause: str) -> None:
    found = decide(evidence(**facts), SPEC)
    assert (found.kind, found.cause) == (kind, cause)
    assert found.guards == ()
    assert all(found.reasons)


GUARDED = [
    ("one row short", {"new_rows": 99}, ("new_rows",)),
    ("exactly enough rows", {"new_rows": 100}, ()),
    ("no new row", {"new_rows": 0}, ("new_rows",)),
    ("rows not counted yet", {"new_rows": None}, ()),
    (
        "one second before the cooldown ends",
        {"last_training": T0 + 6 * WEEK - timedelta(hours=12) + timedelta(seconds=1)},
        ("cooldown",),
    ),
    ("the moment the cooldown ends", {"last_training": T0 + 6 * WEEK - timedelta(hours=12)}, ()),
    ("a retraining in the ledger cools too", {"retrainings": (T0 + 6 * WEEK,)}, ("cooldown",)),
    ("a clock that ran ahead", {"last_training": T0 + 7 * WEEK}, ("cooldown",)),
    ("two in the week", {"retrainings": tuple(T0 + 6 * WEEK - k * DAY for k in (1, 2))}, ()),
    ("three in the week", {"retrainings": tuple(T0 + 6 * WEEK - k * DAY for k in (1, 2, 3))}, ("budget",)),
    (
        "the third exactly seven days ago",
        {"retrainings": tuple(T0 + 6 * WEEK - k * DAY for k in (1, 2, 7))},
        (),
    ),
    (
        "the third a second later than that",
        {"retrainings": (*(T0 + 6 * WEEK - k * DAY for k in (1, 2)), T0 + 5 * WEEK + timedelta(seconds=1))},
        ("budget",),
    ),
    ("one futile retraining", {"futile": 1}, ()),
    ("two futile retrainings", {"futile": 2}, ("futility",)),
    (
        "several at once",
        {"new_rows": 3, "futile": 2, "last_training": T0 + 6 * WEEK},
        ("new_rows", "cooldown", "futility"),
    ),
]


@pytest.mark.parametrize("facts", [line[1] for line in GUARDED], ids=[line[0] for line in GUARDED])
@pytest.mark.parametrize(
    "wish",
    [
        {"performance": checks("ooodd")},
        {"drift": checks("oooodd"), "performance": ()},
        {"staleness": stale(due="debt")},
        {"has_champion": False},
    ],
    ids=["decay", "drift", "staleness", "first"],
)
def test_every_wish_to_train_passes_the_guards(wish: dict[str, object], facts: dict[str, object]) -> None:
    guards = next(line[2] for line in GUARDED if line[1] is facts)
    if "performance" not in wish:  # futility concerns alarms: what is due by age needs none to have been true
        guards = tuple(guard for guard in guards if guard != "futility")
    found = decide(evidence(**wish, **facts), SPEC)
    assert found.guards == guards
    assert found.kind == ("SKIP" if guards else "TRAIN")
    assert found.cause == wanted_cause(evidence(**wish), SPEC)
    assert found.escalate == ("futility" in guards)
    assert len(found.reasons) == 1 + len(guards)


LABELS = make_spec(
    window={"training": "28d", "check": "7d"},
    retrain={"min_new_rows": 100, "min_new_labels": 500, "max_age": "60d", "cooldown": "12h"},
)


@pytest.mark.parametrize(
    ("facts", "kind", "cause"),
    [
        ({"new_labels": 500}, "TRAIN", "new_labels"),
        ({"new_labels": 499}, "SKIP", "none"),
        ({"new_labels": None}, "SKIP", "none"),
        ({"new_labels": 500, "data_ok": False}, "BLOCK", "data"),
        ({"new_labels": 499, "label_fault": "x"}, "BLOCK", "labels"),
        ({"new_labels": 500, "label_fault": "x"}, "TRAIN", "new_labels"),
        ({"new_labels": 500, "has_champion": False}, "TRAIN", "first"),
        ({"new_labels": 500, "performance": checks("ooodd")}, "TRAIN", "decay"),
        ({"new_labels": 500, "drift": checks("oooodd"), "performance": ()}, "TRAIN", "drift"),
        ({"new_labels": 500, "staleness": stale(due="age")}, "TRAIN", "staleness"),
        ({"new_labels": 500, "staleness": stale()}, "TRAIN", "new_labels"),
        ({"new_labels": 500, "drift": checks("oooood")}, "TRAIN", "new_labels"),
    ],
)
def test_new_labels_come_after_what_is_wrong_and_after_staleness(
    facts: dict[str, object], kind: str, cause: str
) -> None:
    found = decide(evidence(**facts), LABELS)
    assert (found.kind, found.cause) == (kind, cause)
    assert decide(evidence(new_labels=10**9), SPEC).cause == "none", "where nobody asks for it"


def test_new_labels_pass_the_guards_and_are_told_as_information() -> None:
    wish = evidence(new_labels=700)
    found = decide(wish, LABELS)
    assert found.reasons == ("700 labels have matured since the last training, 500 are enough",)
    assert (found.window, cause_of(found.id)) == (week(5), "new_labels")
    assert wanted_cause(wish, LABELS) == "new_labels"
    assert incident_of(found) == ("new_labels", "info")
    assert "new_labels" not in over(found)
    assert "new_labels" in over(decide(evidence(), LABELS))
    held = decide(replace(wish, new_rows=3, futile=2, last_training=wish.as_of), LABELS)
    assert (held.kind, held.guards, held.escalate) == ("SKIP", ("new_rows", "cooldown"), False)


def test_a_budget_of_nothing_never_trains() -> None:
    spec = make_spec(retrain={"budget_per_week": 0})
    assert decide(evidence(has_champion=False), spec).guards == ("budget",)


def test_a_window_that_was_checked_twice_counts_once_and_the_later_check_counts() -> None:
    twice = (*checks("ooood"), *checks("ooood"))
    assert decide(evidence(performance=twice), SPEC).kind == "SKIP"
    corrected = (*checks("ooodd"), CheckOutcome(week(4), "ok", "labels were corrected"))
    assert decide(evidence(performance=corrected), SPEC).cause == "none"


def test_the_order_in_which_checks_arrive_does_not_matter() -> None:
    shuffled = tuple(reversed(checks("ooodd")))
    assert decide(evidence(performance=shuffled), SPEC) == decide(evidence(performance=checks("ooodd")), SPEC)


def test_a_skipped_wish_and_the_training_that_follows_have_different_ids() -> None:
    wish = evidence(performance=checks("ooodd"))
    held = decide(replace(wish, new_rows=0), SPEC)
    assert held.kind == "SKIP"
    assert held.id != decide(wish, SPEC).id


def test_the_id_follows_the_window_of_the_check_that_caused_it() -> None:
    decay = {"performance": checks("ooodd")}
    first = decide(evidence(**decay), SPEC)
    later = decide(
        evidence(**decay, as_of=T0 + 7 * WEEK, window=week(6), drift=checks("ooooooo"), new_rows=9), SPEC
    )
    again = decide(evidence(**decay, as_of=T0 + 7 * WEEK, window=week(6), drift=checks("oooooo")), SPEC)
    assert first.window == again.window == week(4)
    assert first.id == again.id, "the same decayed window, asked a week later"
    assert later.kind == "SKIP"
    assert decide(evidence(performance=checks("oooddd")), SPEC).id != first.id, "one more window is another"


def test_an_id_without_any_check_is_that_of_the_running_check_window() -> None:
    empty = Evidence(as_of=T0 + timedelta(hours=1), has_champion=False)
    hour_later = replace(empty, as_of=T0 + timedelta(hours=2))
    week_later = replace(empty, as_of=T0 + WEEK + timedelta(hours=1))
    assert decide(empty, SPEC).id == decide(hour_later, SPEC).id
    assert decide(empty, SPEC).id != decide(week_later, SPEC).id


def test_an_id_tells_its_cause_and_other_ids_tell_none() -> None:
    assert cause_of(decide(evidence(performance=checks("ooodd")), SPEC).id) == "decay"
    for foreign in ("", "manual", "train-decay", "train-party-0123456789abcdef", "train-decay-short"):
        assert cause_of(foreign) is None


def test_the_evidence_of_a_decision_is_json_and_holds_what_it_rests_on() -> None:
    found = decide(evidence(performance=checks("ooodd"), retrainings=(T0,)), SPEC)
    kept = json.loads(json.dumps(found.evidence, allow_nan=False))
    assert [check["outcome"] for check in kept["performance"]] == ["ok", "ok", "ok", "drift", "drift"]
    assert kept["new_rows"] == 5000
    assert kept["retrainings"] == [T0.isoformat()]


def test_a_naive_time_and_an_unknown_outcome_are_refused() -> None:
    with pytest.raises(Exception, match="naive datetime"):
        Evidence(as_of=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="outcome 'fine'"):
        CheckOutcome(week(0), "fine")


def test_silence_is_named_and_not_called_ok() -> None:
    said = decide(Evidence(as_of=T0, data_ok=True), make_spec()).sentence()
    assert "score not checked" in said
    assert "inputs not checked" in said


# Properties.

lines = st.text("owdu", max_size=6).map(checks)
shifted = st.tuples(st.text("owdu", max_size=6), st.integers(-2, 2)).map(lambda pair: checks(*pair))
moments = st.integers(-40 * 24, 6 * 7 * 24).map(lambda hours: T0 + timedelta(hours=hours))
evidences = st.builds(
    Evidence,
    as_of=st.just(T0 + 6 * WEEK),
    data_ok=st.sampled_from([True, False, None]),
    data_reason=st.sampled_from(["", "a column is gone"]),
    drift=lines,
    performance=shifted,
    label_fault=st.sampled_from([None, None, None, "labels all 0"]),
    new_rows=st.sampled_from([None, 0, 99, 100, 5000]),
    last_training=st.none() | moments,
    retrainings=st.lists(moments, max_size=5).map(tuple),
    futile=st.integers(0, 3),
    champion_trained=st.none() | moments,
    staleness=st.none() | st.builds(stale, st.floats(0, 1), due=st.sampled_from(["", "", "debt", "age"])),
    judged_until=st.none() | moments,
    has_champion=st.sampled_from([True, True, True, False]),
    window=st.none() | st.integers(0, 6).map(week),
)
specs = st.builds(
    lambda m, n, age: make_spec(
        window={"training": "28d", "check": "7d"},
        drift={"windows": [min(m, n), n]},
        retrain={"min_new_rows": 100, "cooldown": "1d", "budget_per_week": 2, "max_age": age},
    ),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([None, "7d", "30d"]),
)


@settings(deadline=None)
@given(evidences, specs)
def test_bad_data_always_blocks(found: Evidence, spec: object) -> None:
    assert decide(replace(found, data_ok=False), spec).kind == "BLOCK"


@settings(deadline=None)
@given(evidences, specs)
def test_a_labelling_fault_starts_no_retraining_and_stops_none(found: Evidence, spec: object) -> None:
    good, faulty = (decide(replace(found, label_fault=fault), spec) for fault in (None, "labels all 0"))
    assert (faulty.kind == "TRAIN") == (good.kind == "TRAIN")
    if wanted_cause(replace(found, label_fault=None), spec) is None and found.has_champion:
        assert faulty.kind == "BLOCK"


@settings(max_examples=250, deadline=None)
@given(evidences, specs, st.data())
def test_adding_evidence_of_health_never_turns_skip_into_train(
    found: Evidence, spec: object, data: st.DataObject
) -> None:
    before = decide(found, spec)
    which = data.draw(st.sampled_from(["drift", "performance", "both", "data", "age", "champion"]))
    at = data.draw(st.integers(-3, 8))
    healthy = CheckOutcome(week(at), "ok")
    more = {
        "drift": {"drift": (*found.drift, healthy)},
        "performance": {"performance": (*found.performance, healthy)},
        "both": {"drift": (*found.drift, healthy), "performance": (*found.performance, healthy)},
        "data": {"data_ok": True if found.data_ok is None else found.data_ok},
        "age": {"staleness": found.staleness and replace(found.staleness, debt=0.0, due="")},
        "champion": {"has_champion": True},
    }[which]
    after = decide(replace(found, **more), spec)
    if before.kind == "SKIP":
        assert after.kind != "TRAIN", (before, after)


@settings(deadline=None)
@given(evidences, specs, st.sampled_from(["new_rows", "retraining", "futile"]))
def test_a_tighter_guard_never_turns_skip_into_train(found: Evidence, spec: object, which: str) -> None:
    tighter = {
        "new_rows": {"new_rows": 0},
        "retraining": {"retrainings": (*found.retrainings, found.as_of)},
        "futile": {"futile": found.futile + 1},
    }[which]
    after = decide(replace(found, **tighter), spec)
    assert not (decide(found, spec).kind == "SKIP" and after.kind == "TRAIN")


@settings(deadline=None)
@given(evidences, specs)
def test_a_decision_is_a_function_of_its_evidence_and_train_means_no_guard(
    found: Evidence, spec: object
) -> None:
    one, two = decide(found, spec), decide(found, spec)
    assert one == two
    assert one.id == decision_id(spec.name, one.kind, one.cause, one.window)
    if one.kind == "TRAIN":
        assert not one.guards
        assert not one.escalate
        assert one.cause == wanted_cause(found, spec)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["churn", "fraud"]),
            st.sampled_from(["TRAIN", "SKIP", "BLOCK"]),
            st.sampled_from(["decay", "drift", "staleness"]),
            st.integers(0, 20).map(week),
        ),
        min_size=2,
        max_size=8,
    )
)
def test_ids_are_equal_exactly_where_model_kind_cause_and_window_are(parts: list[tuple]) -> None:
    assert len({decision_id(*part) for part in parts}) == len(set(parts))

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.policy.decision import decide, decision_id
from tasks.core.policy.probation import auto_rollback_id
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.monitor import gather_evidence, realised_performance
from tasks.settings import Settings
from tasks.store import checks, ledger, predictions
from tasks.store.engine import open_store
from tasks.store.evidence import label_counts, suspect_windows
from tests.make import make_spec

T0 = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
SPEC = make_spec(window={"training": "28d", "check": "7d"}, retrain={"cooldown": "1d", "min_new_rows": 100})

AT_ONCE = SPEC.model_copy(update={"label": SPEC.label.model_copy(update={"maturity": "0d"})})


def week(number: int) -> Window:
    return Window(T0 + number * WEEK, T0 + (number + 1) * WEEK)


@pytest.fixture
def engine(settings: Settings):
    return open_store(settings)


def any_suspect(engine, window: Window, as_of: datetime) -> bool:
    return bool(suspect_windows(engine, AT_ONCE, window, as_of))


def serve(
    engine, number: int, *, version: int = 1, rows: int = 400, good: bool = True, name: str = ""
) -> Any:
    """Log one week of predictions with a true AUC of about 0.9, or 0.5; return keys and true labels."""
    rng = np.random.default_rng(number * 10 + version)
    y = (rng.random(rows) < 0.3).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(size=rows) + (1.8 * y if good else 0) - 1)))
    keys = [f"{name}w{number}-v{version}-{row}" for row in range(rows)]
    frame = pd.DataFrame(
        {
            "prediction_id": keys,
            "row_key": keys,
            "event_time": [week(number).start + WEEK * row / rows for row in range(rows)],
            "prediction": (p > 0.5).astype(int),
            "score": np.column_stack([1 - p, p]).tolist(),
        }
    )
    predictions.log(engine, frame, model="churn", version=version, served_at=week(number).end)
    return keys, y


def label(engine, keys: list[str], y: Any, known_at: datetime) -> None:
    predictions.labels_record(engine, "churn", pd.DataFrame({"row_key": keys, "label": y}), known_at)


def check(engine, kind: str, number: int, outcome: str, *, version: int = 1, **summary: Any) -> None:
    checks.record(
        engine,
        model="churn",
        kind=kind,
        window=week(number),
        version=version,
        outcome=outcome,
        summary=summary,
    )


def ended(engine, cause: str, number: int, action: str, version: int = 1) -> None:
    """Put the end of a retraining at the end of this week into the ledger."""
    ledger.record(
        engine,
        model="churn",
        decision_id=decision_id("churn", "TRAIN", cause, week(number)),
        action=action,
        from_version=version,
        to_version=version + 1,
        actor="gate",
        reason="test",
        at=week(number).end,
    )


# Realised performance.


def test_performance_is_measured_on_the_predictions_whose_labels_are_known(engine, settings) -> None:
    from sklearn.metrics import roc_auc_score

    keys, y = serve(engine, 0)
    label(engine, keys[:300], y[:300], week(1).start)
    found = realised_performance.fn(SPEC, week(0), 0.85, (0, 1), settings=settings)
    logged = predictions.read(engine, "churn", week(0)).set_index("row_key").loc[keys[:300]]
    assert found.rows == 300
    assert found.value == pytest.approx(roc_auc_score(y[:300], [score[1] for score in logged["score"]]))
    assert found.outcome == "ok"


def test_a_model_that_guesses_is_found_out_and_corrected_labels_count(engine, settings) -> None:
    keys, y = serve(engine, 0, good=False)
    label(engine, keys, y, week(1).start)
    assert realised_performance.fn(SPEC, week(0), 0.85, (0, 1), settings=settings).outcome == "drift"
    flipped, truth = serve(engine, 1)
    label(engine, flipped, 1 - truth, week(2).start)
    label(engine, flipped, truth, week(2).end)
    corrected = realised_performance.fn(SPEC, week(1), 0.85, (0, 1), settings=settings)
    before = realised_performance.fn(SPEC, week(1), 0.85, (0, 1), as_of=week(2).start, settings=settings)
    assert (before.outcome, corrected.outcome) == ("drift", "ok")


def test_what_an_earlier_version_predicted_is_not_held_against_the_champion(engine, settings) -> None:
    for version, good in [(1, False), (2, True)]:
        keys, y = serve(engine, 0, version=version, good=good)
        label(engine, keys, y, week(1).start)
    of_two = realised_performance.fn(SPEC, week(0), 0.85, (0, 1), version=2, settings=settings)
    assert (of_two.outcome, of_two.rows) == ("ok", 400)
    assert realised_performance.fn(SPEC, week(0), 0.85, (0, 1), settings=settings).outcome == "drift"


def test_an_empty_window_and_one_without_labels_are_undecided(engine, settings) -> None:
    empty = realised_performance.fn(SPEC, week(0), 0.85, (0, 1), settings=settings)
    assert (empty.outcome, empty.rows) == ("undecided", 0)
    serve(engine, 0)
    assert realised_performance.fn(SPEC, week(0), 0.85, (0, 1), settings=settings).outcome == "undecided"


# Evidence.


def gathered(settings, number: int, *, version: int | None = 1, spec: ModelSpec = SPEC, **more: Any):
    at = week(number).end
    return gather_evidence.fn(spec, at, week(number), version=version, settings=settings, **more)


def test_an_empty_store_knows_nothing_and_asks_for_the_first_training(engine, settings) -> None:
    found = gathered(settings, 0, version=None)
    assert (found.drift, found.performance, found.retrainings, found.futile) == ((), (), (), 0)
    assert found.data_ok is None
    decision = decide(found, SPEC)
    assert (decision.kind, decision.cause, decision.window) == ("TRAIN", "first", week(0))


def test_checks_of_the_champion_count_and_those_of_the_version_before_do_not(engine, settings) -> None:
    check(engine, "performance", 1, "drift", reason="fell")
    check(engine, "performance", 2, "drift", reason="fell")
    assert decide(gathered(settings, 2), SPEC).cause == "decay"
    after = gathered(settings, 2, version=2)
    assert after.performance == ()
    assert decide(after, SPEC).cause == "none"


def test_the_last_n_checks_up_to_the_moment_count_with_their_newest_conclusion(engine, settings) -> None:
    for number, outcome in enumerate(["drift", "ok", "drift", "ok", "drift"]):
        check(engine, "drift", number, outcome)
    check(engine, "drift", 1, "warn", reason="a second look")
    assert [c.outcome for c in gathered(settings, 3).drift] == ["warn", "drift", "ok"]
    assert [c.outcome for c in gathered(settings, 4).drift] == ["drift", "ok", "drift"]


@pytest.mark.parametrize(("outcome", "ok"), [("ok", True), ("quarantine", True), ("block", False)])
def test_the_newest_data_check_speaks_for_the_data(engine, settings, outcome: str, ok: bool) -> None:
    check(engine, "data", 0, "block" if ok else "ok")
    check(engine, "data", 1, outcome, sentence="column customer_age is gone")
    found = gathered(settings, 1)
    assert (found.data_ok, found.data_reason) == (ok, "column customer_age is gone")
    assert gathered(settings, 1, data_ok=not ok).data_ok is not ok, "what the caller knows comes first"


def test_retrainings_are_those_that_trained(engine, settings) -> None:
    for number, action in enumerate(["promoted", "kept", "skipped", "blocked", "refused"]):
        ended(engine, "decay", number, action)
    found = gathered(settings, 5)
    assert found.retrainings == (week(0).end, week(1).end, week(4).end)
    assert found.last_training == week(4).end
    assert gathered(settings, 0).retrainings == (week(0).end,), "the future is not seen"


def test_two_futile_retrainings_for_one_cause_stop_the_third_and_call_a_person(engine, settings) -> None:
    for number in (1, 2, 3):
        check(engine, "performance", number, "drift")
    ended(engine, "drift", 0, "kept")
    ended(engine, "decay", 1, "kept")
    assert gathered(settings, 3).futile == 1, "another cause does not count"
    ended(engine, "decay", 2, "kept")
    stopped = decide(gathered(settings, 4), SPEC)
    assert (stopped.kind, stopped.guards, stopped.escalate) == ("SKIP", ("futility",), True)


def test_a_promotion_that_went_back_by_itself_was_vain_too(engine, settings) -> None:
    for number in (1, 2, 3):
        check(engine, "performance", number, "drift")
    ended(engine, "decay", 1, "kept")
    ended(engine, "decay", 2, "promoted")
    assert gathered(settings, 3).futile == 0
    went_back = auto_rollback_id(2, "train-decay-2")
    ledger.record(
        engine, model=SPEC.name, decision_id=went_back, action="rolled_back", from_version=2, to_version=1,
        actor="monitor", reason="2 of 3 windows below the promise", at=week(2).end + timedelta(hours=1),
    )  # fmt: skip
    assert gathered(settings, 3).futile == 2


def test_a_promotion_or_a_whole_training_window_ends_futility(engine, settings) -> None:
    for number in (4, 5, 6, 7):
        check(engine, "performance", number, "drift")
    ended(engine, "decay", 1, "kept")
    ended(engine, "decay", 2, "kept")
    assert gathered(settings, 5).futile == 1, "the first is 28 days old: its rows have all been replaced"
    assert gathered(settings, 6).futile == 0
    ended(engine, "decay", 5, "kept")
    ended(engine, "drift", 6, "promoted")
    assert gathered(settings, 7).futile == 0


def went_back(engine, cause: str, number: int, version: int) -> None:
    """Promote a version at the end of this week and let it go back by itself an hour later."""
    ended(engine, cause, number, "promoted", version - 1)
    ledger.record(
        engine, model=SPEC.name, decision_id=auto_rollback_id(version, f"train-{number}"),
        action="rolled_back", from_version=None, to_version=1, actor="monitor", reason="2 of 3 windows bad",
        evidence={"instead_of": version}, at=week(number).end + timedelta(hours=1),
    )  # fmt: skip


def by_hand(engine, action: str, number: int, version: int, **over: Any) -> None:
    ledger.record(
        engine, model=SPEC.name, decision_id=f"{over.pop('kind', 'promotion')}-v{version}-{number}",
        action=action, from_version=1, to_version=version, reason="test",
        at=week(number).end + timedelta(hours=2), **{"actor": "ann", **over},
    )  # fmt: skip


def test_promotions_that_went_back_are_counted_however_long_ago_until_a_person_is_told(
    engine, settings
) -> None:
    for number in (19, 20):
        check(engine, "performance", number, "drift")
    went_back(engine, "decay", 4, 2)
    assert gathered(settings, 20).futile == 1
    went_back(engine, "drift", 9, 3)
    assert gathered(settings, 20).futile == 1, "another cause does not count"
    went_back(engine, "decay", 14, 4)
    stopped = decide(gathered(settings, 20), SPEC)
    assert (stopped.kind, stopped.guards, stopped.escalate) == ("SKIP", ("futility",), True)


def test_what_was_only_kept_is_still_forgotten_after_a_training_window(engine, settings) -> None:
    for number in (19, 20):
        check(engine, "performance", number, "drift")
    ended(engine, "decay", 4, "kept")
    went_back(engine, "decay", 9, 3)
    assert gathered(settings, 20).futile == 1


@pytest.mark.parametrize(
    ("action", "version", "over"),
    [
        ("promoted", 5, {}),
        ("rolled_back", 1, {"kind": "rollback"}),
        ("rejected", 9, {"kind": "approval"}),
    ],
)
def test_a_person_who_acted_starts_the_count_anew(
    engine, settings, action: str, version: int, over: dict[str, Any]
) -> None:
    for number in (19, 20):
        check(engine, "performance", number, "drift")
    went_back(engine, "decay", 4, 2)
    went_back(engine, "decay", 9, 3)
    assert gathered(settings, 20).futile == 2
    by_hand(engine, action, 14, version, **over)
    assert gathered(settings, 20).futile == 0
    went_back(engine, "decay", 15, 6)
    assert gathered(settings, 20).futile == 1


def test_silence_is_no_person_and_ends_nothing(engine, settings) -> None:
    for number in (19, 20):
        check(engine, "performance", number, "drift")
    went_back(engine, "decay", 4, 2)
    by_hand(engine, "rejected", 14, 9, kind="approval", actor="silence")
    assert gathered(settings, 20).futile == 1


def test_a_promotion_that_sticks_ends_every_earlier_one(engine, settings) -> None:
    for number in (19, 20):
        check(engine, "performance", number, "drift")
    went_back(engine, "decay", 4, 2)
    ended(engine, "decay", 9, "promoted", 4)
    assert gathered(settings, 20).futile == 0


def test_asking_again_about_the_same_window_is_the_same_decision(engine, settings) -> None:
    check(engine, "performance", 1, "drift")
    check(engine, "performance", 2, "drift")
    first = decide(gathered(settings, 2), SPEC)
    check(engine, "performance", 2, "drift", reason="the same again")
    check(engine, "drift", 3, "ok")
    assert decide(gathered(settings, 3), SPEC).id == first.id


# Labelling faults.


def history(engine, weeks: int, **over: Any) -> None:
    for number in range(weeks):
        keys, y = serve(engine, number)
        label(engine, keys, y, week(number).end)


def test_labels_are_counted_newest_first_and_only_as_known_then(engine) -> None:
    keys, y = serve(engine, 0)
    label(engine, keys, np.zeros(400, dtype=int), week(0).end)
    label(engine, keys, y, week(1).end)
    assert label_counts(engine, "churn", week(0), week(0).end) == {0: 400}
    assert label_counts(engine, "churn", week(0), week(1).end) == {0: 400 - y.sum(), 1: y.sum()}
    assert label_counts(engine, "churn", week(1), week(1).end) == {}
    assert label_counts(engine, "other", week(0), week(1).end) == {}


def test_a_week_of_zeros_blocks_and_corrected_labels_clear_it(engine, settings) -> None:
    history(engine, 4)
    keys, y = serve(engine, 4)
    label(engine, keys, np.where(np.arange(400) < 395, 0, 1), week(4).end)
    for number in (3, 4):
        check(engine, "performance", number, "drift")
        check(engine, "drift", number, "ok", score_drifted=False)
    decision = decide(gathered(settings, 4, spec=AT_ONCE), AT_ONCE)
    assert (decision.kind, decision.cause) == ("BLOCK", "labels")
    assert "label '1' fell" in decision.reasons[0]
    (early,) = suspect_windows(engine, SPEC, week(4), week(4).end)
    assert early.window.end == week(4).end - timedelta(days=2), "the last two days are not mature"
    keys_after, y_after = serve(engine, 5)
    label(engine, keys_after, y_after, week(5).end)
    (still,) = suspect_windows(engine, AT_ONCE, week(5), week(5).end)
    assert (still.window, still.until) == (week(4), week(7).end), "not corrected yet: its rows stay out"
    assert suspect_windows(engine, AT_ONCE, week(7), week(7).end) == (), "and no longer than three windows"
    label(engine, keys, y, week(5).end)
    assert gathered(settings, 5, spec=AT_ONCE).label_fault is None


def test_a_faulty_week_does_not_accuse_the_good_one_that_follows(engine, settings) -> None:
    history(engine, 3)
    keys, _ = serve(engine, 3)
    label(engine, keys, np.zeros(400, dtype=int), week(3).end)
    for number in (4, 5, 6):
        keys, y = serve(engine, number)
        label(engine, keys, y, week(number).end)
    for number in range(7):
        check(engine, "drift", number, "ok", scores_moved=False, inputs_moved=False)
    assert [s.window for s in suspect_windows(engine, AT_ONCE, week(5), week(5).end)] == [week(3)]
    assert not any_suspect(engine, week(6), week(6).end), "week 3 is out of the last three"


@pytest.mark.parametrize(
    ("outcome", "moved"),
    [
        ("undecided", {}),
        ("undecided", {"scores_moved": None, "inputs_moved": None}),
        ("warn", {"scores_moved": False, "inputs_moved": True}),
        ("ok", {"scores_moved": None, "inputs_moved": False}),
        ("drift", {"score_drifted": True}),
        (None, {}),
    ],
)
def test_what_no_check_knows_to_have_stayed_is_no_reason_to_suspect_labels(
    engine, settings, outcome: str | None, moved: dict
) -> None:
    history(engine, 4)
    keys, y = serve(engine, 4)
    label(engine, keys, 1 - y, week(4).end)
    if outcome is not None:
        check(engine, "drift", 4, outcome, **moved)
    assert not any_suspect(engine, week(4), week(4).end)
    check(engine, "drift", 4, "ok", scores_moved=False, inputs_moved=False)
    assert any_suspect(engine, week(4), week(4).end)


@pytest.mark.parametrize(
    ("days", "stayed", "suspected"), [(3, True, False), (4, True, True), (4, False, False), (3, False, True)]
)
def test_what_is_known_of_most_of_the_window_counts(
    engine, settings, days: int, stayed: bool, suspected: bool
) -> None:
    history(engine, 4)
    keys, y = serve(engine, 4)
    label(engine, keys, 1 - y, week(4).end)
    edge = week(4).start + timedelta(days=days)
    parts = [Window(edge - WEEK, edge), Window(edge, edge + WEEK)]
    for part, moved in zip(parts, (not stayed, stayed), strict=True):
        checks.record(
            engine,
            model="churn",
            kind="drift",
            window=part,
            version=1,
            outcome="drift" if moved else "ok",
            summary={"scores_moved": moved, "inputs_moved": moved},
        )
    after = week(6).end  # both checks are on record
    assert bool(suspect_windows(engine, AT_ONCE, week(4), after)) == suspected


def test_calm_labels_and_few_labels_raise_no_suspicion(engine, settings) -> None:
    history(engine, 6)
    for number in range(7):
        check(engine, "drift", number, "ok", scores_moved=False, inputs_moved=False)
    assert not any_suspect(engine, week(5), week(6).end)
    keys, _ = serve(engine, 6)
    label(engine, keys[:20], np.zeros(20, dtype=int), week(6).end)
    assert not any_suspect(engine, week(6), week(6).end)


NUMBERS = make_spec(
    task="regression",
    metric="r2",
    label={"column": "churned"},
    estimator={"class": "sklearn.ensemble.HistGradientBoostingRegressor"},
    window={"training": "91d", "check": "7d"},
)


@pytest.mark.parametrize("moved", [True, False, None])
def test_numbers_that_jump_are_suspected_where_nothing_else_moved(
    engine, settings, moved: bool | None
) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        keys, _ = serve(engine, number)
        label(engine, keys, rng.normal(3.0 if number == 7 else 0.0, 1, 400), week(number).end)
        check(engine, "drift", number, "ok", scores_moved=moved, inputs_moved=moved)
    suspects = suspect_windows(engine, NUMBERS, week(7), week(7).end)
    assert [s.window for s in suspects] == ([week(7)] if moved is False else [])
    some = label_counts(engine, "churn", week(7), week(7).end, most=100)
    assert sum(some.values()) == 100
    assert some == label_counts(engine, "churn", week(7), week(7).end, most=100)


def test_the_same_evidence_is_read_from_postgres(postgres_url: str, tmp_path) -> None:
    settings = Settings(state_dir=tmp_path / "state", store=postgres_url)
    engine = open_store(settings)
    history(engine, 3)
    keys, y = serve(engine, 3)
    label(engine, keys, np.zeros(400, dtype=int), week(3).end)
    check(engine, "performance", 3, "drift")
    check(engine, "drift", 3, "ok", scores_moved=False, inputs_moved=False)
    ended(engine, "decay", 2, "kept")
    found = gathered(settings, 3, spec=AT_ONCE)
    assert found.label_fault.startswith(str(week(3)))
    assert (found.performance[0].outcome, found.retrainings) == ("undecided", (week(2).end,))
    label(engine, keys, y, week(4).end)
    assert gathered(settings, 4, spec=AT_ONCE).performance[0].outcome == "drift", "the labels were corrected"
    assert label_counts(engine, "churn", week(3), week(4).end) == {0: 400 - y.sum(), 1: y.sum()}
    assert realised_performance.fn(SPEC, week(3), 0.85, (0, 1), settings=settings).outcome == "ok"

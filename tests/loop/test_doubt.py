"""Labels that turn over: better on the newest rows, worse on the trusted ones, and so a person decides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

import flows.promote
from tasks.core.spec import ModelSpec
from tasks.store import alerts, anchors, ledger, lifecycle
from tasks.store.engine import open_store
from tests.make import START, make_frame

DAY = timedelta(days=1)
FIRST, SECOND, THIRD = START + 30 * DAY, START + 58 * DAY, START + 86 * DAY
ANN = {"actor": "ann", "reason": "the plans really changed"}
Retrain = Callable[..., Any]


@pytest.fixture
def turned(rows_spec: ModelSpec) -> ModelSpec:
    """A model whose labels turn over on its fifth week, for whatever reason."""
    frames = [make_frame(1500, seed=seed, start=START + 28 * seed * DAY) for seed in range(3)]
    frame = pd.concat(frames, ignore_index=True)
    late = frame["event_time"] >= START + 28 * DAY
    frame["churned"] = frame["churned"].mask(late, 1 - frame["churned"])
    frame.to_parquet(rows_spec.source.url)
    gate = {"max_disagreement": None, "max_label_shift": None, "anchor": {"rows": 200}, "on_doubt": "ask"}
    gate["refit"] = False  # a version that has learnt every row has none left for a new anchor
    window = {"training": "28d", "check": "7d", "rows": "sliding"}
    return ModelSpec.model_validate({**rows_spec.model_dump(mode="json"), "gate": gate, "window": window})


def actions(spec: ModelSpec) -> list[tuple[str, int | None]]:
    return [(row.action, row.to_version) for row in ledger.history(open_store(None), spec.name)]


def test_a_person_decides_and_freezes_new_rows_and_the_loop_goes_on(
    retrain: Retrain, turned: ModelSpec
) -> None:
    engine = open_store(None)
    assert retrain(turned, as_of=FIRST, decision_id="one").action == "promoted"
    (trusted,) = anchors.history(engine, turned.name)
    assert (trusted.version, trusted.rows, trusted.actor) == (1, 200, "retrain")

    # Better on the newest rows beyond all doubt, and worse on the trusted ones: only a person may say so.
    ended = retrain(turned, as_of=SECOND, decision_id="two")
    assert ended.action == "waiting", ended.why
    assert "trusted" in ended.why or "anchor" in ended.why
    assert actions(turned) == [("promoted", 1), ("waiting", 2)]
    assert lifecycle.stages(engine, turned.name) == {1: "PRODUCTION", 2: "STAGING"}
    assert [one.cause for one in alerts.history(engine, turned.name, open_only=True)] == ["approval v2"]

    ruling = flows.promote.promote(turned, verdict="approve", version=2, as_of=SECOND + DAY, **ANN)
    assert ruling.action == "promoted"
    assert lifecycle.stages(engine, turned.name) == {1: "ARCHIVED", 2: "PRODUCTION"}
    renewed = flows.promote.promote(turned, verdict="renew_anchor", as_of=SECOND + DAY, **ANN)
    assert (renewed.fixed_by_version, renewed.revision) == (2, 2)
    assert [row.actor for row in anchors.history(engine, turned.name)] == ["retrain", "ann"]

    # The next one is no worse there: whatever the gate says of it, nothing waits for a person any more.
    assert retrain(turned, as_of=THIRD, decision_id="three").action in {"kept", "promoted"}


@pytest.mark.parametrize(("on_doubt", "action"), [("keep", "kept"), ("tell", "promoted")])
def test_a_spec_may_keep_or_promote_and_tell_instead(
    retrain: Retrain, turned: ModelSpec, on_doubt: str, action: str
) -> None:
    gate = turned.gate.model_copy(update={"on_doubt": on_doubt})
    spec = turned.model_copy(update={"gate": gate})
    assert retrain(spec, as_of=FIRST, decision_id="one").action == "promoted"
    ended = retrain(spec, as_of=SECOND, decision_id="two")
    assert ended.action == action
    assert "trusted" in ended.why or "anchor" in ended.why


def test_without_trusted_rows_nothing_speaks_against_it(retrain: Retrain, turned: ModelSpec) -> None:
    gate = turned.gate.model_copy(update={"anchor": turned.gate.anchor.model_copy(update={"rows": 0})})
    spec = turned.model_copy(update={"gate": gate})
    retrain(spec, as_of=FIRST, decision_id="one")
    assert anchors.history(open_store(None), spec.name) == []
    assert retrain(spec, as_of=SECOND, decision_id="two").action == "promoted"

"""How runs end: in Prefect's own states, with the outcome where lists of runs show it."""

from __future__ import annotations

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Completed, Crashed, Failed, State

from tasks.ran import note_run
from tasks.run_state import completed, outcome_of, sentence_of
from tests.make import make_spec


def test_a_completed_state_has_the_standard_name_and_keeps_outcome_sentence_and_result() -> None:
    state = completed("Drift: TRAIN, promoted", "inputs moved · by 0.2", 7)
    assert (state.name, state.type) == ("Completed", StateType.COMPLETED)
    assert (outcome_of(state), sentence_of(state)) == ("Drift: TRAIN, promoted", "inputs moved · by 0.2")
    assert state.result() == 7
    assert len(completed("Kept", "x" * 1000, None).message or "") == 400


@pytest.mark.parametrize(
    ("state", "outcome", "sentence"),
    [
        (Completed(), "Completed", ""),
        (Completed(message="all well"), "Completed", "all well"),
        (Failed(message="a · b"), "Failed", "a · b"),
        (Crashed(message="No heartbeat"), "Crashed", "No heartbeat"),
    ],
)
def test_other_states_are_what_they_are(state: State, outcome: str, sentence: str) -> None:
    assert (outcome_of(state), sentence_of(state)) == (outcome, sentence)


@pytest.mark.engine
def test_the_outcome_of_a_run_stands_in_its_name_and_tags(
    prefect_api: None, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))

    @flow(name="watch", flow_run_name="churn: watch", on_completion=[note_run], on_failure=[note_run])
    def watch(spec: dict, *, fails: bool = False) -> object:
        if fails:
            raise ValueError("no")
        return completed("Drift: SKIP", "nothing to do", 1)

    spec = {"name": make_spec().name}
    states = [watch(spec, return_state=True), watch(spec, fails=True, return_state=True)]
    with get_client(sync_client=True) as client:
        runs = [client.read_flow_run(state.state_details.flow_run_id) for state in states]
    assert [(run.name, run.tags, run.state_name) for run in runs] == [
        ("churn: watch · Drift: SKIP", ["outcome:drift-skip"], "Completed"),
        ("churn: watch", [], "Failed"),
    ]

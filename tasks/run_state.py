"""How a run ends well: in Prefect's own state `Completed`, the outcome in its message, its name and a tag.

A state of another name is left out by the filters of Prefect's pages and by automations on `Completed`.
"""

from __future__ import annotations

import re
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.states import Completed, State

from tasks.log import task_logger
from tasks.store.passing import may_pass

_BETWEEN = " · "
_LONGEST = 400


def completed(outcome: str, sentence: str, data: object) -> State[Any]:  # Any: whatever the flow returns
    """Return a completed state whose message begins with the outcome, e.g. `Promoted · version 3: …`."""
    return Completed(message=f"{outcome}{_BETWEEN}{sentence}"[:_LONGEST], data=data)


def outcome_of(state: State[Any]) -> str:
    """Return the outcome of a run that ended well, and the name of any other state."""
    outcome, between, _ = (state.message or "").partition(_BETWEEN)
    if state.is_completed() and between:
        return outcome
    return str(state.name or state.type.value.capitalize())


def sentence_of(state: State[Any]) -> str:
    """Return the message of the state without the outcome."""
    _, between, sentence = (state.message or "").partition(_BETWEEN)
    return sentence if state.is_completed() and between else state.message or ""


def again_if_passing(task: object, run: object, state: Any) -> bool:  # Any: prefect's own state type
    """Retry a task only where something did not answer: another attempt mends nothing else."""
    del task, run
    found = state.result(raise_on_failure=False)
    return not isinstance(found, TimeoutError) and may_pass(found)  # the task's own limit is no such fault


def show_outcome(flow_run: FlowRun, state: State[Any]) -> None:
    """Put the outcome into the run's name and tags, where lists of runs show it; best effort."""
    outcome = outcome_of(state)
    if not state.is_completed() or outcome == state.name:
        return
    tag = f"outcome:{re.sub(r'[^a-z0-9]+', '-', outcome.lower()).strip('-')}"
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(
                flow_run.id, name=f"{flow_run.name} · {outcome}", tags=[*flow_run.tags, tag]
            )
    except (PrefectException, httpx.HTTPError, OSError) as err:
        task_logger(__name__).info("the outcome is not in the run's name (%s)", type(err).__name__)

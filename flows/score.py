"""Score: what serves predicts the newest window, and every prediction is on record."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State

from tasks.cli import run_flow
from tasks.clock import now_or, window_edge
from tasks.core.form import ABOUT_MODEL, AsOf
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration
from tasks.declared import check_declared
from tasks.failure import explain_failure
from tasks.fetch import fetch_rows_to_score
from tasks.publish import publish_validation
from tasks.ran import note_run
from tasks.register import champion, served_by
from tasks.score import refuse_window, score_window
from tasks.validate import validate_in_parts


@flow(
    name="score",
    flow_run_name="{spec.name}: score",
    persist_result=False,
    on_completion=[note_run],
    on_failure=[explain_failure, note_run],
    on_crashed=[explain_failure, note_run],
)
def score(spec: ModelSpec = ABOUT_MODEL, as_of: AsOf = None) -> State[Any]:
    """Score the rows of the newest check window; running it again adds only what was not scored yet.

    Args:
        spec: The model, as written under `definitions.models`.
        as_of: The moment to act as if it were; default: now.
    """
    check_declared(spec)
    moment = now_or(as_of)
    window = Window.ending(window_edge(as_of, parse_duration(spec.window.check)), spec.window.check)
    incumbent = champion(spec.name, required=True)
    spec, change = served_by(spec, incumbent)
    rows = fetch_rows_to_score(spec, window, moment)
    report = validate_in_parts(spec, rows, attempt=f"score-{window.start:%Y%m%dT%H%M}")
    publish_validation(spec, report, window)
    if report.outcome == "block":
        why = "; ".join(filter(None, (report.sentence(), change)))
        return refuse_window(spec, why, incumbent.version).state()
    return score_window(
        spec,
        rows,
        incumbent.model_path,
        incumbent.version,
        served_at=moment,
        partner=incumbent.partner,
        partner_trouble=incumbent.partner_trouble,
        note=change,
    ).state()


if __name__ == "__main__":
    raise SystemExit(run_flow(score))

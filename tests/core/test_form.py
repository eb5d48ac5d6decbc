"""What a run may be asked with, as the form shows it and as it is checked."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools.validation import validate

from tasks.core.form import ABOUT_MODEL, Actor, AsOf, DecisionId, DryRun, Force, Reason, Version, fit_reason
from tasks.core.spec import ModelSpec
from tests.make import make_spec


@flow
def asked(
    as_of: AsOf = None,
    reason: Reason = "manual",
    decision_id: DecisionId = "",
    actor: Actor = "",
    version: Version = None,
    dry_run: DryRun = True,
    force: Force = False,
) -> None:
    """Do nothing.

    Args:
        as_of: The moment.
        reason: Why.
        decision_id: The decision.
        actor: Who.
        version: Which.
        dry_run: Only show.
        force: Do it anyway.
    """


WRONG = [
    ("reason", "x" * 501),
    ("reason", "first\nsecond"),
    ("decision_id", "train-decay-1; drop"),
    ("decision_id", "x" * 121),
    ("actor", "x" * 101),
    ("actor", "jo\tann"),
    ("version", 0),
    ("version", "newest"),
    ("as_of", "yesterday"),
    ("dry_run", "perhaps"),
]
RIGHT = [
    ("reason", "x" * 500),
    ("reason", "naïve, déjà vu: 7 %"),
    ("decision_id", "train-decay-fb02626bb69f4985"),
    ("decision_id", ""),
    ("version", 3),
    ("version", None),
    ("as_of", "2026-01-05T00:00:00Z"),
    ("as_of", None),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_out_of_bounds_is_refused_by_flow_and_names_the_field(name: str, value: Any) -> None:
    with pytest.raises(ParameterTypeError, match=name):
        asked.validate_parameters({name: value})


@pytest.mark.parametrize(("name", "value"), [pair for pair in WRONG if pair[0] not in {"as_of"}])
def test_the_api_refuses_it_before_a_run_starts(name: str, value: Any) -> None:
    assert validate({name: value}, asked.parameters.model_dump())


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_a_value_within_bounds_is_taken_by_both(name: str, value: Any) -> None:
    asked.validate_parameters({name: value})
    assert not validate({name: value}, asked.parameters.model_dump())


def test_every_field_of_the_form_has_a_title_for_people_its_help_and_its_place() -> None:
    fields = asked.parameters.properties
    titles = [fields[name]["title"] for name in fields]
    assert titles == ["As of", "Reason", "Decision id", "Who you are", "Version", "Dry run", "Force"]
    assert [fields[name]["position"] for name in fields] == list(range(7))
    assert fields["dry_run"]["description"] == "Only show."


@flow
def about(spec: ModelSpec = ABOUT_MODEL, dry_run: DryRun = True) -> str:
    """Do nothing.

    Args:
        spec: The model.
        dry_run: Only show.
    """
    return f"{spec.name} {dry_run}"


def test_the_model_is_required_though_it_stands_last() -> None:
    form = about.parameters
    assert form.required == ["spec"]
    assert form.properties["spec"]["position"] > form.properties["dry_run"]["position"]
    assert form.properties["spec"]["title"] == "Model"
    assert form.properties["spec"]["description"] == "The model."
    assert validate({}, form.model_dump())
    with pytest.raises(ParameterTypeError, match="spec"):
        about.validate_parameters({"spec": {"name": "churn"}})
    assert about.fn(**about.validate_parameters({"spec": make_spec(), "dry_run": False})) == "churn False"


@pytest.mark.parametrize("text", ["x" * 900, "a\nb", "tab\there\x00\x7f", "short", ""])
def test_a_fitted_reason_is_always_taken(text: str) -> None:
    asked.validate_parameters({"reason": fit_reason(text)})
    assert not validate({"reason": fit_reason(text)}, asked.parameters.model_dump())

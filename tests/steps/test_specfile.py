"""Specs are found by name in YAML, and what is wrong with the file is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tasks.core.errors import SpecError
from tasks.specfile import load_spec, model_blocks
from tests.make import spec_block


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file with one model under the key `churn_eu`, whose spec is called `churn`."""
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump({"definitions": {"models": {"churn_eu": spec_block()}}}))
    return path


def test_a_model_is_found_by_its_key_and_by_its_own_name(config: Path) -> None:
    assert load_spec("churn_eu", config) == load_spec("churn", config)
    assert load_spec("churn", config).source.key == "event_id"


def test_overrides_replace_single_fields_and_are_read_as_yaml(config: Path) -> None:
    spec = load_spec(
        "churn", config, overrides={"window.check": "3d", "gate.floor": "0.7", "drift.windows": "[1, 2]"}
    )
    assert (spec.window.check, spec.gate.floor, spec.drift.windows) == ("3d", 0.7, (1, 2))
    assert spec.window.training == "28d"


def test_an_override_of_an_unknown_field_names_the_field(config: Path) -> None:
    with pytest.raises(SpecError, match=r"window\.chekc: unknown key"):
        load_spec("churn", config, overrides={"window.chekc": "3d"})


def test_an_override_below_a_plain_value_is_refused(config: Path) -> None:
    with pytest.raises(SpecError, match="below a plain value"):
        load_spec("churn", config, overrides={"metric.name": "roc_auc"})


def test_a_misspelt_model_gets_the_nearest_name(config: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'churn_eu'"):
        load_spec("chrun_eu", config)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "is not YAML at line"),
        ("a: 1", "has no definitions.models"),
        ("", "has no definitions.models"),
        ("definitions: {models: [1, 2]}", "has no definitions.models"),
    ],
)
def test_a_file_that_is_no_model_file_is_told_apart(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=said):
        model_blocks(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no file nowhere\.yaml"):
        model_blocks(tmp_path / "nowhere.yaml")

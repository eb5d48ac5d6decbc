"""A file that cannot work, and a server that is away: one line each, before anything is asked of a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.sync import main

ROOT = Path(__file__).parents[2]
FULL = yaml.safe_load((ROOT / "prefect.yaml").read_text())


def write(folder: Path, edit: Callable[[dict[str, dict[str, Any]]], Any]) -> str:
    """Return a file with the repository's deployments, edited by flow."""
    copied = yaml.safe_load(yaml.safe_dump(FULL["deployments"]))
    by_flow = {one["entrypoint"].split(".")[1]: one for one in copied}
    edit(by_flow)
    file = folder / "prefect.yaml"
    # Without anchors in between: an edit of one deployment is none of another.
    plain = [yaml.safe_load(yaml.safe_dump(one)) for one in by_flow.values()]
    file.write_text(yaml.safe_dump({"deployments": plain}))
    return str(file)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda flows: flows["score"]["parameters"]["spec"].pop("source"), "source"),
        (lambda flows: flows["retrain"]["parameters"].update(forced=True), "did you mean 'force'"),
        (lambda flows: flows["retrain"]["parameters"].update(dry_run="perhaps"), "dry_run"),
        (
            lambda flows: flows["score"].update(entrypoint="flows.score.missing"),
            "AttributeError at its entrypoint",
        ),
        (lambda flows: flows["score"].update(tags=["evergreen"]), "flow:score"),
        (lambda flows: flows["score"]["schedules"][0].pop("slug"), "without slug or timezone"),
        (
            lambda flows: flows["retrain"]["triggers"][0].update(
                match={"prefect.resource.id": "evergreen.model.x"}
            ),
            "another model's decision retrains this one",
        ),
        (lambda flows: flows["monitor"].update(name="other"), "name: demo"),
    ],
    ids=["spec", "unknown", "type", "entrypoint", "tags", "slug", "match", "name"],
)
def test_a_wrong_file_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[dict[str, dict[str, Any]]], Any],
    says: str,
) -> None:
    # No server listens there: a wrong file is refused before anybody is asked.
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["--file", write(tmp_path, edit)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("SpecError: found ")
    assert len(said.splitlines()) == 1
    assert says in said


@pytest.mark.parametrize(
    ("address", "says"),
    [("http://127.0.0.1:9/api", "no answer from the Prefect server"), (None, "no PREFECT_API_URL")],
)
def test_a_server_that_is_away_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str | None, says: str
) -> None:
    with temporary_settings({PREFECT_API_URL: address}):
        assert main(["--file", write(tmp_path, lambda _: None), "--check"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("DeployError: found ")
    assert says in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "no file"), ("a: [", "is not YAML"), ("deployments: 3", "without a list of deployments")],
)
def test_a_file_that_is_no_declaration_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, says: str
) -> None:
    file = tmp_path / "other.yaml"
    if text is not None:
        file.write_text(text)
    assert main(["--file", str(file)]) == 2
    said = capsys.readouterr().err
    assert "other.yaml" in said
    assert says in said

"""The model blocks that stand in the repository are valid, and the demo's is the simulation's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.replay.simulate import demo_spec
from tasks.core.spec import parse_spec
from tasks.specfile import load_spec, model_blocks

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "prefect.yaml", *sorted((ROOT / "examples").glob("*.yaml"))]


@pytest.mark.parametrize(
    ("file", "model"), [(file, name) for file in FILES for name in model_blocks(file)], ids=str
)
def test_every_model_block_of_the_repository_is_valid(file: Path, model: str) -> None:
    assert load_spec(model, file).features.all


def test_the_demo_block_is_the_block_of_the_simulation() -> None:
    block = demo_spec()
    url = model_blocks(ROOT / "prefect.yaml")["demo"]["source"]["url"]
    block["source"] = {**block["source"], "url": url}
    assert load_spec("demo", ROOT / "prefect.yaml") == parse_spec(block)

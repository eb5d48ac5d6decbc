"""Lineage: every version says on which code, rows and orders it was made, where people will look for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.model.bundle import MANIFEST, SPEC, Manifest, digest_of
from tasks.settings import Settings
from tasks.store import provenance
from tasks.store.bundles import write_bundle
from tasks.store.mlflow_client import open_client
from tasks.store.provenance import LOCK, code_state
from tasks.store.runs import lineage_tags
from tests.versions import LATER, SPEC_, Made, a_version, files_of

IMAGE = "sha256:" + "a" * 64
DECISION = {"id": "train-decay-1", "cause": "decay", "caused_by": "flow-run-7", "kind": "TRAIN"}


def test_a_version_its_run_and_its_rows_carry_the_whole_lineage(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_IMAGE_DIGEST", IMAGE)
    version = a_version(made, place, decision=DECISION)
    client = open_client(place)
    run = client.get_run(version.run_id)
    tags = client.get_model_version("churn", "1").tags
    expected = {
        "evergreen.attempt": "a1",
        "evergreen.digest": version.digest,
        "evergreen.decision": "train-decay-1",
        "evergreen.cause": "decay",
        "evergreen.caused_by": "flow-run-7",
        "evergreen.created": LATER.isoformat(),
        "evergreen.snapshot": made.snapshot.sha256,
        "evergreen.snapshot.keys": made.trained.train_keys_sha256,
        "evergreen.snapshot.interval": str(made.trained.train_window),
        "evergreen.snapshot.cut": made.trained.cut.isoformat(),
        "evergreen.spec": digest_of((files_of(version) / SPEC).read_bytes()),
        "evergreen.seed": "0",
        "evergreen.lock": digest_of(LOCK.read_bytes()),
        "evergreen.image": IMAGE,
    }
    assert {name: tags.get(name) for name in expected} == expected
    assert {name: run.data.tags.get(name) for name in expected} == expected
    assert tags["mlflow.source.git.commit"] == (code_state().commit or "unknown")
    (rows,) = run.inputs.dataset_inputs
    assert json.loads(rows.dataset.profile) == {"num_rows": made.snapshot.rows}
    assert json.loads(rows.dataset.source) == {"uri": made.snapshot.path}
    assert {tag.key: tag.value for tag in rows.tags} == {
        "mlflow.data.context": "training",
        **{name: value for name, value in expected.items() if name.startswith("evergreen.snapshot")},
    }


def test_tags_repeat_the_manifest_that_the_digest_vouches_for(made: Made, place: Settings) -> None:
    version = a_version(made, place, decision=DECISION)
    manifest = Manifest.from_json((files_of(version) / MANIFEST).read_text())
    tags = open_client(place).get_model_version("churn", "1").tags
    assert lineage_tags(manifest).items() <= tags.items()
    assert manifest.decision == DECISION
    assert manifest.training["seed"] == SPEC_.estimator.seed


def bundle(made: Made, folder: Path, **over: Any) -> Manifest:
    return write_bundle(
        folder, SPEC_, "a1", trained=made.trained, evaluated=made.evaluated, reference={"rows": 1},
        snapshot=made.snapshot, decision={"id": "d"}, as_of=LATER, **over,
    )  # fmt: skip


def test_what_is_not_known_has_no_tag_and_is_not_made_up(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_IMAGE_DIGEST", " ")
    monkeypatch.delenv("EVERGREEN_GIT_COMMIT", raising=False)
    monkeypatch.setattr(provenance, "_git", lambda *_: None)
    monkeypatch.setattr(provenance, "LOCK", tmp_path / "no.lock")
    manifest = bundle(made, tmp_path / "bundle")
    assert {manifest.code[name] for name in ("commit", "dirty", "lock_sha256", "image")} == {None}
    tags = lineage_tags(manifest)
    assert not {"image", "lock", "cause", "caused_by", "threads"} & {key.split(".")[-1] for key in tags}
    assert (tags["mlflow.source.git.commit"], tags["evergreen.dirty"]) == ("unknown", "none")


def test_the_same_bundle_is_the_same_bytes_and_threads_are_part_of_it(made: Made, tmp_path: Path) -> None:
    one, again = (bundle(made, tmp_path / name, threads=2) for name in ("one", "again"))
    assert one.digest == again.digest
    assert lineage_tags(one)["evergreen.threads"] == "2"
    assert bundle(made, tmp_path / "other", threads=1).digest != one.digest

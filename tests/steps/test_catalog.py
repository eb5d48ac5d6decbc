"""What is known of a version is noted once, is what its manifest says, and never another version's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tasks.core.errors import RegistryError
from tasks.store import catalog
from tests.histories import START, ended, manifest, noted, version_of
from tests.stores import BOTH, fresh_store


@pytest.mark.parametrize("kind", BOTH)
def test_a_note_holds_what_the_manifest_says(kind: str, request: pytest.FixtureRequest, tmp_path) -> None:
    with fresh_store(kind, request, tmp_path) as engine:
        facts = noted(engine, 3)
        assert facts == catalog.version_facts(engine, "churn", 3)
        assert (facts.decision_id, facts.cause, facts.attempt) == ("train-3", "decay", "train-3")
        assert (facts.git_commit, facts.dirty, facts.lock_sha256) == (f"{3:040x}", False, "b" * 64)
        assert facts.snapshot == {
            "path": "/rows/3.parquet",
            "sha256": f"{3:064x}",
            "rows": 1003,
            "keys": "c" * 64,
        }
        assert facts.created == START + timedelta(days=3)
        assert facts.registered_at == facts.created + timedelta(minutes=5)
        assert (facts.window_end, facts.cut) == (facts.created, facts.created - timedelta(days=5))
        assert (facts.metric, facts.promise_low, facts.promise_high) == ("roc_auc", 0.69, 0.75)
        assert facts.promise == pytest.approx(0.7003)
        assert facts.gate["reasons"] == ["difference +0.003", "all the same"]
        assert (facts.champion_version, facts.anchor_sha256, facts.anchor_score) == (1, "a" * 64, 0.8)
        assert facts.score("accuracy") == pytest.approx(0.8997)
        assert facts.score("roc_auc") == facts.promise
        assert facts.score("f1") is None


def test_the_same_version_is_noted_once_and_another_under_its_number_is_refused(request, tmp_path) -> None:
    with fresh_store("sqlite", request, tmp_path) as engine:
        first, made = noted(engine, 1), manifest(1)
        again = catalog.note_version(
            engine, version_of(made, 1), made, registered_at=START + timedelta(days=400), image="sha256:1"
        )
        assert again == first
        other = replace(made, attempt="another")
        with pytest.raises(RegistryError, match="registered under this number"):
            catalog.note_version(engine, version_of(other, 1), other, registered_at=START)
        assert catalog.all_facts(engine, "churn") == [first]


def test_what_is_not_known_is_none_and_a_score_that_is_no_number_too(request, tmp_path) -> None:
    with fresh_store("sqlite", request, tmp_path) as engine:
        made = manifest(1, code={}, decision={}, training={}, gate={"outcome": "promote"})
        facts = catalog.note_version(
            engine,
            version_of(made, 1),
            made,
            anchor_sha256="a" * 64,
            anchor_score=float("nan"),
            registered_at=START,
        )
        assert (facts.git_commit, facts.dirty, facts.lock_sha256, facts.image) == (None, None, None, None)
        assert (facts.champion_version, facts.cause, facts.anchor_score) == (None, "", None)
        assert facts.score("accuracy") is None


def test_an_image_is_taken_from_the_manifest_where_it_names_one(request, tmp_path) -> None:
    with fresh_store("sqlite", request, tmp_path) as engine:
        assert noted(engine, 1, code={"commit": None, "image": "sha256:77"}).image == "sha256:77"


def test_the_score_on_the_anchor_is_that_of_the_training_before_that_of_the_gate(request, tmp_path) -> None:
    with fresh_store("sqlite", request, tmp_path) as engine:
        facts = noted(engine, 1, training={"anchor_sha256": "d" * 64, "anchor_score": 0.83})
        assert (facts.anchor_sha256, facts.anchor_score) == ("d" * 64, 0.83)
        facts = noted(engine, 2, training={"anchor_sha256": "", "anchor_score": None}, gate={})
        assert (facts.anchor_sha256, facts.anchor_score) == (None, None)


def test_models_are_known_by_their_versions_or_by_their_ledger(request, tmp_path) -> None:
    with fresh_store("sqlite", request, tmp_path) as engine:
        assert catalog.model_names(engine) == []
        noted(engine, 1, "fraud")
        ended(engine, 1, "promoted", None)
        assert catalog.model_names(engine) == ["churn", "fraud"]
        assert catalog.version_facts(engine, "churn", 1) is None


@pytest.mark.parametrize("kind", BOTH)
def test_a_version_is_held_by_what_was_made_here_or_stands_in_the_ledger(
    kind: str, request, tmp_path
) -> None:
    with fresh_store(kind, request, tmp_path) as engine:
        one, two = (version_of(manifest(number), number) for number in (1, 2))
        assert not catalog.is_held(engine, one)
        for _ in range(2):
            catalog.note_bundle(engine, "churn", "train-1", one.digest, at=START)
        assert catalog.is_held(engine, one)
        assert not catalog.is_held(engine, replace(one, name="fraud"))
        noted(engine, 2)
        assert not catalog.is_held(engine, two), "facts may come from the registry"
        assert not catalog.is_held(engine, replace(one, number=2)), "but they contradict"
        ended(engine, 2, "waiting", None)
        assert catalog.is_held(engine, two)
        assert catalog.held_of_attempt(engine, "churn", "train-1") == {one.digest}
        assert catalog.held_of_attempt(engine, "churn", "train-2") == {two.digest}
        assert catalog.held_of_attempt(engine, "churn", "train-3") == set()
        assert catalog.ledger_digests(engine, "churn", 1) == set()


def test_what_the_ledger_holds_counts_before_what_was_made_here(request, tmp_path) -> None:
    with fresh_store("sqlite", request, tmp_path) as engine:
        one, other = version_of(manifest(1), 1), version_of(manifest(1, attempt="another"), 1)
        ended(engine, 1, "promoted", None)
        catalog.note_bundle(engine, "churn", "another", other.digest, at=START)
        assert catalog.is_held(engine, one)
        assert not catalog.is_held(engine, other)

"""The frozen trusted rows: fixed once, by a recorded act, found again whole, and kept by the best version."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.anchor import current_anchor, fix_anchor
from tasks.core.dataset import Dataset
from tasks.core.errors import PromotionRefused
from tasks.core.model.answers import answers_to
from tasks.core.model.bundle import ChampionRef
from tasks.core.model.guess import score_of
from tasks.core.results import AnchorRef
from tasks.core.window import Window
from tasks.evaluate import evaluate_pair
from tasks.register import Version, champion
from tasks.settings import Settings
from tasks.store import anchors, s3
from tasks.store.engine import open_store, writing
from tasks.store.models import load_model
from tasks.store.schema_versions import versions
from tasks.train import train_challenger
from tests.make import START, make_frame, make_spec
from tests.versions import CUT, LATER, SMALL, Made, a_version, files_of, moved

SPEC_ = make_spec(estimator=SMALL, gate={"min_rows": 20, "anchor": {"rows": 50}})
WINDOW = Window(START, START + timedelta(days=1))
WINDOW_END = START + timedelta(days=28)


def fixed(spec, made: Made, place: Settings, version: int = 1, **over: Any) -> AnchorRef | None:
    known = {"actor": "gate", "reason": "first version", "as_of": LATER, "settings": place, **over}
    return fix_anchor.fn(spec, known.pop("trained", made.trained), version=version, **known)


def current(place: Settings, spec=SPEC_) -> AnchorRef | None:
    return current_anchor.fn(spec, settings=place)


def on_record(place: Settings, version: Version, **over: Any) -> None:
    """Write the version's line in the catalogue, as registering does."""
    row = {
        "model": version.name,
        "number": version.number,
        "digest": version.digest,
        "run_id": version.run_id,
        "attempt": f"a{version.number}",
        "decision_id": "d",
        "cause": "first",
        "created": LATER,
        "registered_at": LATER,
        "snapshot": {},
        "window_start": START,
        "window_end": LATER,
        "cut": CUT,
        "metric": "roc_auc",
        "gate": {},
        "params": {},
        **over,
    }
    with writing(open_store(place)) as connection:
        connection.execute(versions.delete().where(versions.c.number == version.number))
        connection.execute(versions.insert(), row)


# Fixing.


def test_an_anchor_is_fixed_once_from_the_unseen_rows_and_never_replaced(made: Made, place: Settings) -> None:
    first = fixed(SPEC_, made, place)
    assert first is not None and (first.rows, first.revision, first.fixed_by_version) == (50, 1, 1)
    rows = pd.read_parquet(first.path)
    holdout = pd.read_parquet(made.trained.holdout_path)
    assert set(rows["event_id"]) <= set(holdout["event_id"]) and rows["churned"].nunique() == 2
    assert set(SPEC_.columns) <= set(rows.columns)
    other = make_frame(200, seed=9, start=CUT)
    path = Path(made.trained.holdout_path).with_name("other.parquet")
    other.to_parquet(path)
    again = fixed(SPEC_, made, place, 2, trained=replace(made.trained, holdout_path=str(path)))
    assert again == first
    assert [row.version for row in anchors.history(open_store(place), "churn")] == [1]


def test_fixing_again_after_a_crash_is_the_same_anchor(made: Made, place: Settings) -> None:
    assert fixed(SPEC_, made, place) == fixed(SPEC_, made, place)
    assert fixed(SPEC_, made, place, renew=True) == fixed(SPEC_, made, place, renew=True)
    assert len(anchors.history(open_store(place), "churn")) == 1


def test_renewing_is_a_recorded_act_with_actor_and_reason(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    first = fixed(SPEC_, made, place)
    newer = make_frame(200, seed=9, start=CUT)
    newer.to_parquet(tmp_path / "newer.parquet")
    trained = replace(made.trained, holdout_path=str(tmp_path / "newer.parquet"))
    found = fixed(SPEC_, made, place, 4, trained=trained, renew=True, actor="ada", reason="prices changed")
    assert first is not None and found is not None and found.sha256 != first.sha256
    told = [
        (row.revision, row.version, row.actor, row.reason)
        for row in anchors.history(open_store(place), "churn")
    ]
    assert told == [(1, 1, "gate", "first version"), (2, 4, "ada", "prices changed")]
    assert current(place) == replace(found, keeper=None)


def test_rows_the_champion_may_have_learnt_from_are_not_renewed_from(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    rows = make_frame(200, seed=9, start=CUT, days=10)
    rows.to_parquet(tmp_path / "rows.parquet")
    trained = replace(made.trained, holdout_path=str(tmp_path / "rows.parquet"))
    since = rows["event_time"].iloc[150].to_pydatetime()
    champion = ChampionRef("model.skops", 3, since)
    found = fixed(SPEC_, made, place, 4, trained=trained, champion=champion)
    assert found is not None and pd.read_parquet(found.path)["event_time"].min() >= since
    late = ChampionRef("model.skops", 3, LATER + timedelta(days=99))
    with pytest.raises(PromotionRefused, match=r"0 rows, fewer than gate.min_rows \(20\) since .*version 3"):
        fixed(SPEC_, made, place, 5, trained=trained, champion=late, renew=True)
    assert [row.version for row in anchors.history(open_store(place), "churn")] == [4]


def test_no_anchor_is_fixed_where_none_is_wanted_or_none_can_be(
    made: Made, place: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    off = make_spec(estimator=SMALL, gate={"anchor": {"rows": 0}})
    assert fixed(off, made, place) is None and current(place, off) is None
    large = make_spec(estimator=SMALL, gate={"min_rows": 61, "anchor": {"rows": 1000}})
    assert fixed(large, made, place) is None
    assert "60 rows, fewer than gate.min_rows (61)" in caplog.text
    assert fixed(SPEC_, made, place, trained=replace(made.trained, holdout_path="gone.parquet")) is None
    assert "the holdout cannot be read (FileNotFoundError)" in caplog.text
    assert current(place) is None and anchors.history(open_store(place), "churn") == []


def test_the_version_it_is_fixed_with_is_held_to_it_too(made: Made, place: Settings) -> None:
    version = a_version(made, place)
    on_record(place, version)
    moved(version, place)
    found = fixed(SPEC_, made, place, version.number)
    assert found is not None
    rows = pd.read_parquet(found.path)
    want = score_of(SPEC_, answers_to(SPEC_, load_model(made.trained.model_path), rows))
    best = anchors.best_keeper(open_store(place), "churn", found.sha256, "roc_auc")
    assert best is not None and (best.number, best.digest) == (version.number, version.digest)
    assert best.score == pytest.approx(want)


def test_rows_without_a_column_of_the_spec_are_not_frozen(
    made: Made, place: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gate = {"min_rows": 20, "anchor": {"rows": 50}}
    weighed = make_spec(estimator=SMALL, gate={**gate, "weight": "amount"})
    wider = make_spec(estimator=SMALL, gate=gate, contract={}, features={"numeric": ["tenure", "visits"]})
    for spec, column in ((weighed, "amount"), (wider, "visits")):
        assert fixed(spec, made, place) is None
        assert f"no anchor fixed, the holdout has no column {column}" in caplog.text
        with pytest.raises(PromotionRefused, match=f"no column {column}.*trained by this spec"):
            fixed(spec, made, place, renew=True)
    assert anchors.history(open_store(place), "churn") == []


# Finding it again.


def test_before_the_first_promotion_an_anchor_has_no_keeper(made: Made, place: Settings) -> None:
    assert current(place) is None
    made_now = fixed(SPEC_, made, place)
    found = current(place)
    assert found == made_now and found is not None
    assert (found.keeper, found.keeper_version, found.trouble) == (None, None, "")


def test_without_scores_on_record_the_champion_keeps_the_anchor(made: Made, place: Settings) -> None:
    fixed(SPEC_, made, place)
    version = a_version(made, place)
    moved(version, place)
    found = current(place)
    assert found is not None and found.keeper is not None and found.trouble == ""
    assert (found.keeper_version, found.keeper.version, found.keeper.train_end) == (1, 1, CUT)
    assert load_model(found.keeper.model_path).classes_.tolist() == [0, 1]


def test_the_best_version_that_ever_served_keeps_the_anchor(made: Made, place: Settings) -> None:
    anchor = fixed(SPEC_, made, place)
    assert anchor is not None
    scores = (0.80, 0.86, 0.84, 0.99)
    served: int | None = None
    for number, score in enumerate(scores, start=1):
        version = a_version(made, place, f"a{number}")
        on_record(place, version, anchor_sha256=anchor.sha256, anchor_score=score)
        if number < 4:  # the best of all never served
            moved(version, place, f"d{number}", expected=served)
            served = number
    found = current(place)
    assert found is not None and found.keeper_version == 2 and found.trouble == ""
    with writing(open_store(place)) as connection:  # other rows, or another metric, are no evidence
        connection.execute(versions.update().where(versions.c.number == 2).values(anchor_sha256="f" * 64))
        connection.execute(versions.update().where(versions.c.number == 3).values(metric="accuracy"))
    found = current(place)
    assert found is not None and found.keeper_version == 1


def test_a_file_that_is_gone_or_changed_is_trouble_and_no_anchor(made: Made, place: Settings) -> None:
    anchor = fixed(SPEC_, made, place)
    assert anchor is not None
    file = Path(anchor.path)
    whole = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(whole[:-1] + b"x")
    changed = current(place)
    assert changed is not None and changed.path == "" and "rows with digest" in changed.trouble
    file.unlink()
    gone = current(place)
    assert gone is not None and gone.path == "" and "FileNotFoundError" in gone.trouble
    assert gone.sha256 == anchor.sha256
    file.write_bytes(whole)
    assert current(place) == anchor


def test_a_place_that_moved_finds_its_anchor_again(made: Made, place: Settings, tmp_path: Path) -> None:
    anchor = fixed(SPEC_, made, place)
    assert anchor is not None
    there = tmp_path / "there"
    shutil.copytree(place.artifact_root, there)
    Path(anchor.path).unlink()
    found = current(place.model_copy(update={"artifacts": str(there)}))
    assert found is not None and found.trouble == "" and found.path.startswith(str(there))


def test_a_keeper_that_was_damaged_or_exchanged_is_trouble(made: Made, place: Settings) -> None:
    anchor = fixed(SPEC_, made, place)
    version = a_version(made, place)
    moved(version, place)
    assert anchor is not None
    on_record(place, version, anchor_sha256=anchor.sha256, anchor_score=0.8, digest="0" * 64)
    other = current(place)
    assert other is not None and other.keeper is None and "on record as" in other.trouble
    on_record(place, version, anchor_sha256=anchor.sha256, anchor_score=0.8)
    assert (current(place) or anchor).trouble == ""
    shutil.rmtree(place.root / "versions")
    (files_of(version) / "model.skops").write_bytes(b"other")
    damaged = current(place)
    assert damaged is not None and damaged.keeper is None and "model.skops" in damaged.trouble
    assert Path(damaged.path).is_file()  # the rows are whole, so training still leaves them out


def test_an_anchor_on_s3_is_fetched_checked_and_kept(made: Made, place: Settings, s3_bucket: str) -> None:
    remote = place.model_copy(update={"artifacts": f"s3://{s3_bucket}/models"})
    anchor = fixed(SPEC_, made, remote)
    assert anchor is not None and anchor.path.startswith("s3://")
    found = current(remote)
    assert found is not None and found.path == str(place.root / "anchors" / f"{anchor.sha256}.parquet")
    assert len(pd.read_parquet(found.path)) == 50
    Path(found.path).write_bytes(b"damaged")  # only the copy: it is fetched anew
    assert current(remote) == found and len(pd.read_parquet(found.path)) == 50
    Path(found.path).unlink()
    files, path = s3.filesystem(anchor.path, remote)
    with files.open_output_stream(path) as sink:
        sink.write(b"other")
    changed = current(remote)
    assert changed is not None and changed.path == "" and "rows with digest" in changed.trouble


def test_from_one_version_to_the_next_the_anchor_is_left_out_and_held_against(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    first = a_version(made, place)
    moved(first, place)
    anchor = fixed(SPEC_, made, place, first.number)
    incumbent = champion.fn("churn", settings=place)
    assert anchor is not None and incumbent is not None
    fresh_rows = make_frame(300, seed=3, start=WINDOW_END)
    frame = pd.concat([made.frame, fresh_rows], ignore_index=True)
    frame.to_parquet(tmp_path / "rows.parquet", index=False)
    dataset = Dataset(
        str(tmp_path / "rows.parquet"), 600, "0" * 64, Window(START, LATER + timedelta(days=30))
    )
    found = current(place)
    assert found is not None
    trained = train_challenger.fn(SPEC_, dataset, "a2", anchor_path=found.path, settings=place)
    assert trained.anchored_rows == 50 and trained.train_rows == 600 - trained.holdout_rows - 50
    judged = evaluate_pair.fn(
        SPEC_,
        trained,
        incumbent.ref,
        anchor=found,
        champion_snapshot=incumbent.manifest.snapshot,
        settings=place,
    )
    assert trained.holdout_rows == 52  # the newest fifth of the training window's rows
    assert judged.decision.outcome != "refuse" and judged.decision.rows == 52
    assert judged.decision.anchor is not None
    assert (judged.decision.anchor.rows, judged.decision.anchor.keeper_version) == (50, 1)
    assert judged.anchor_sha256 == anchor.sha256
    assert judged.anchor_score == pytest.approx(judged.decision.anchor.score)


def killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_crash_while_fixing_leaves_no_anchor_without_the_score_of_its_version(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = a_version(made, place)
    on_record(place, version)
    moved(version, place)
    with monkeypatch.context() as patch:
        patch.setattr(anchors, "fix", killed)
        with pytest.raises(KeyboardInterrupt):
            fixed(SPEC_, made, place)
    assert current(place) is None
    anchor = fixed(SPEC_, made, place)
    assert anchor is not None
    best = anchors.best_keeper(open_store(place), "churn", anchor.sha256, "roc_auc")
    assert best is not None and best.number == 1

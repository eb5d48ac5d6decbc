"""New trusted rows: by a person with a reason, from rows the version never saw, the old ones kept."""

from __future__ import annotations

import pandas as pd
import pytest

from tasks.core.errors import PromotionRefused, RegistryError, SpecError
from tasks.renewal import renew_anchor, renewed
from tasks.settings import Settings
from tasks.store import anchors
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.versions import CUT, LATER, SMALL, Made, a_version, moved

SPEC_ = make_spec(estimator=SMALL, gate={"min_rows": 20, "anchor": {"rows": 40}})


def renew(
    place: Settings, version: int | None = None, *, spec=SPEC_, actor: str = "ann", reason: str = "new"
):
    return renew_anchor.fn(spec, version, actor=actor, reason=reason, as_of=LATER, settings=place)


def test_the_champions_unseen_rows_become_the_trusted_ones_on_record(made: Made, place: Settings) -> None:
    moved(a_version(made, place), place)
    made_now = renew(place, reason="the world has changed")
    assert (made_now.rows, made_now.revision, made_now.fixed_by_version) == (40, 1, 1)
    rows = pd.read_parquet(made_now.path)
    assert rows["event_time"].min() >= pd.Timestamp(CUT)
    assert set(rows["event_id"]) <= set(made.frame["event_id"])
    (row,) = anchors.history(open_store(place), "churn")
    assert (row.actor, row.reason, row.version) == ("ann", "the world has changed", 1)
    assert renewed(SPEC_, made_now).message == "churn: 40 rows that version 1 has not learnt from"


def test_a_second_renewal_keeps_the_first_and_the_newest_counts(made: Made, place: Settings) -> None:
    moved(a_version(made, place), place)
    first = renew(place)
    moved(a_version(made, place, "a2"), place, "d2")
    smaller = make_spec(estimator=SMALL, gate={"min_rows": 20, "anchor": {"rows": 30}})
    second = renew(place, spec=smaller)
    assert (second.revision, second.rows, second.fixed_by_version) == (2, 30, 2)
    assert [row.sha256 for row in anchors.history(open_store(place), "churn")] == [
        first.sha256,
        second.sha256,
    ]
    current = anchors.current(open_store(place), "churn")
    assert current is not None
    assert current.sha256 == second.sha256
    assert renew(place, spec=smaller).revision == 2, "the same act again is no second one"


@pytest.mark.parametrize("missing", ["actor", "reason"])
def test_nobody_renews_without_a_name_and_a_reason(made: Made, place: Settings, missing: str) -> None:
    moved(a_version(made, place), place)
    with pytest.raises(SpecError, match=missing):
        renew(place, **{missing: " "})
    assert anchors.history(open_store(place), "churn") == []


def test_what_cannot_be_frozen_is_refused_and_what_stands_stays(made: Made, place: Settings) -> None:
    with pytest.raises(PromotionRefused, match="no champion"):
        renew(place)
    moved(a_version(made, place), place)
    standing = renew(place)
    with pytest.raises(PromotionRefused, match=r"gate\.anchor\.rows: 0"):
        renew(place, spec=make_spec(estimator=SMALL, gate={"anchor": {"rows": 0}}))
    with pytest.raises(PromotionRefused, match="makes no anchor"):  # 60 unseen rows, 100 are asked for
        renew(place, spec=make_spec(estimator=SMALL, gate={"anchor": {"rows": 40}}))
    with pytest.raises(RegistryError):
        renew(place, 7)
    current = anchors.current(open_store(place), "churn")
    assert current is not None
    assert current.sha256 == standing.sha256

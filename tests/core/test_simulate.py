"""The demo year is what it says it is: checked by fitting models on it directly."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from tasks.core.replay.simulate import DemoYear, demo_spec, demo_year
from tasks.core.spec import parse_spec

SPEC = parse_spec(demo_spec() | {"source": demo_spec()["source"] | {"url": "files/*.parquet"}})
FEATURES = SPEC.features.all


@pytest.fixture(scope="module")
def year() -> DemoYear:
    return demo_year()


@pytest.fixture(scope="module")
def rows(year: DemoYear) -> pd.DataFrame:
    frame = year.rows()
    frame["window"] = ((frame["event_time"] - year.windows[0].start) // timedelta(days=14)).astype(int)
    return frame


class Model:
    """A plain classifier fitted on windows [first, last], without any of this project's own code."""

    def __init__(self, rows: pd.DataFrame, first: int, last: int):
        part = rows[rows["window"].between(first, last)]
        self.rows = rows
        params = demo_spec()["estimator"]["params"]
        self.model = HistGradientBoostingClassifier(
            categorical_features=[name in SPEC.features.categorical for name in FEATURES],
            random_state=0,
            **params,
        ).fit(self._coded(part), part["churned"])

    def _coded(self, part: pd.DataFrame) -> pd.DataFrame:
        codes = {
            name: pd.Categorical(part[name], categories=sorted(self.rows[name].dropna().unique())).codes
            for name in SPEC.features.categorical
        }
        return part[FEATURES].assign(**codes)

    def auc(self, first: int, last: int | None = None) -> float:
        part = self.rows[self.rows["window"].between(first, first if last is None else last)]
        return float(roc_auc_score(part["churned"], self.model.predict_proba(self._coded(part))[:, 1]))


@pytest.fixture(scope="module")
def first_model(rows: pd.DataFrame) -> Model:
    return Model(rows, 0, 3)


def phase(year: DemoYear, kind: str) -> tuple[int, int]:
    found = next(item for item in year.truth if item.kind == kind)
    return found.first_window, found.last_window


def test_in_calm_a_boosted_tree_reaches_an_auc_between_080_and_085(first_model: Model) -> None:
    assert 0.80 <= first_model.auc(4, 6) <= 0.85


def test_the_harmless_drift_moves_inputs_clearly_and_costs_less_than_a_hundredth(
    year: DemoYear, rows: pd.DataFrame, first_model: Model
) -> None:
    first, last = phase(year, "covariate")
    calm, moved = rows[rows["window"] <= 3], rows[rows["window"].between(first, last)]
    assert abs(moved["customer_age"].mean() - calm["customer_age"].mean()) > 0.7 * calm["customer_age"].std()
    table = pd.crosstab(rows["channel"], rows["window"].between(first, last))
    assert stats.chi2_contingency(table).pvalue < 1e-20
    assert first_model.auc(first, last) > first_model.auc(4, 6) - 0.01
    assert Model(rows, first, last - 1).auc(last) < first_model.auc(last) + 0.01, "retraining gains nothing"


@pytest.mark.parametrize(("kind", "before"), [("gradual", (0, 3)), ("sudden", (18, 19))])
def test_a_harmful_drift_costs_a_stale_model_much_and_retraining_wins_most_of_it_back(
    year: DemoYear, rows: pd.DataFrame, kind: str, before: tuple[int, int]
) -> None:
    first, last = phase(year, kind)
    settled = last + 1 if kind == "gradual" else first + 1
    stale = Model(rows, *before)
    was = stale.auc(before[1] + 1, before[1] + 3) if kind == "gradual" else Model(rows, 17, 18).auc(19)
    loss = was - stale.auc(settled + 2)
    won_back = Model(rows, settled, settled + 1).auc(settled + 2) - stale.auc(settled + 2)
    assert loss >= 0.06
    assert won_back >= 0.8 * loss


def test_the_gradual_drift_grows_and_the_sudden_one_does_not(year: DemoYear, first_model: Model) -> None:
    first, last = phase(year, "gradual")
    scores = [first_model.auc(window) for window in range(first - 1, last + 2)]
    assert scores == sorted(scores, reverse=True)
    sudden = phase(year, "sudden")[0]
    assert first_model.auc(sudden - 1) - first_model.auc(sudden) > 0.06


def test_every_season_moves_the_inputs_in_the_same_way_and_does_not_hurt(
    year: DemoYear, rows: pd.DataFrame, first_model: Model
) -> None:
    calm = rows[rows["window"] <= 4]
    seasons = [item for item in year.truth if item.kind == "season"]
    assert [item.first_window for item in seasons] == [5, 11, 17, 23]
    for item in seasons:
        now = rows[rows["window"] == item.first_window]
        assert stats.ks_2samp(calm["sessions_per_week"], now["sessions_per_week"]).statistic > 0.2
        assert (
            stats.ks_2samp(calm["days_since_login"].dropna(), now["days_since_login"].dropna()).pvalue < 1e-6
        )
    assert first_model.auc(5) > first_model.auc(4, 6) - 0.01
    assert first_model.auc(11) > first_model.auc(4, 6) - 0.01


def test_prevalence_stays_about_the_same_all_year(rows: pd.DataFrame) -> None:
    shares = rows.groupby("window")["churned"].mean()
    assert len(shares) == 26
    assert shares.between(0.23, 0.35).all()


def test_concept_drift_leaves_the_inputs_alone(rows: pd.DataFrame) -> None:
    calm, after = rows[rows["window"] <= 4], rows[rows["window"].isin([16, 19, 21])]
    for name in SPEC.features.numeric:
        assert stats.ks_2samp(calm[name].dropna(), after[name].dropna()).statistic < 0.03


def test_the_renamed_week_lacks_the_column_until_the_file_is_published_again(year: DemoYear) -> None:
    window = phase(year, "rename")[0]
    bad, again = (
        a for a in year.arrivals if a.name.startswith(f"customers-{year.windows[window].start:%Y-%m-%d}")
    )
    assert "customer_age" not in bad.frame
    assert "cust_age" in bad.frame
    assert again.replaces == bad.name
    assert again.at - bad.at == timedelta(days=14)
    pd.testing.assert_frame_equal(
        bad.frame.rename(columns={"cust_age": "customer_age"}).drop(columns="updated_at"),
        again.frame.drop(columns="updated_at"),
    )
    assert (again.frame["updated_at"] == pd.Timestamp(again.at)).all()


def test_duplicates_and_late_rows_come_in_one_batch_and_resolve_to_one_row_each(
    year: DemoYear, rows: pd.DataFrame
) -> None:
    window = phase(year, "duplicates")[0]
    before, batch = (next(a for a in year.arrivals if a.at in year.windows[i]) for i in (window - 1, window))
    span = year.windows[window]
    late = batch.frame[batch.frame["event_time"] < span.start]
    assert len(late) == 167
    assert not set(late["event_id"]) & set(before.frame["event_id"])
    assert batch.frame.duplicated().sum() == 250
    assert rows["event_id"].is_unique
    assert (rows.groupby("window").size() == 2000).all()


def test_the_wrong_labels_are_put_right_by_rows_written_later(year: DemoYear) -> None:
    window = phase(year, "labels")[0]
    wrong, right = (
        a for a in year.arrivals if a.name.startswith(f"customers-{year.windows[window].start:%Y-%m-%d}")
    )
    assert wrong.frame["churned"].mean() < 0.04
    assert right.frame["churned"].mean() > 0.23
    assert right.replaces is None
    assert list(right.frame["event_id"]) == list(wrong.frame["event_id"])
    assert right.frame["updated_at"].min() > wrong.frame["updated_at"].max()


def test_files_arrive_in_order_within_their_window_and_after_their_events(year: DemoYear) -> None:
    moments = [arrival.at for arrival in year.arrivals]
    assert moments == sorted(moments)
    assert len({arrival.name for arrival in year.arrivals}) == len(year.arrivals) == 28
    for arrival in year.arrivals:
        assert (arrival.frame["event_time"] < pd.Timestamp(arrival.at)).all()
        assert (arrival.frame["updated_at"] == pd.Timestamp(arrival.at)).all()


def test_a_seed_is_a_year_and_the_first_windows_do_not_depend_on_how_many_follow() -> None:
    short, again, other = (demo_year(seed, 50, 3) for seed in (3, 3, 4))
    assert [len(a.frame) for a in short.arrivals] == [50, 50, 50]
    for one, two in zip(short.arrivals, again.arrivals, strict=True):
        pd.testing.assert_frame_equal(one.frame, two.frame)
    assert not short.arrivals[0].frame["tenure_months"].equals(other.arrivals[0].frame["tenure_months"])
    longer = demo_year(3, 50, 6)
    pd.testing.assert_frame_equal(short.arrivals[2].frame, longer.arrivals[2].frame)


def test_a_short_year_ends_its_phases_with_its_last_window() -> None:
    assert max(item.last_window for item in demo_year(1, 20, 9).truth) == 8


def test_every_file_keeps_the_contract_columns_and_types(year: DemoYear) -> None:
    expected = year.arrivals[0].frame.dtypes
    for arrival in year.arrivals:
        if "cust_age" not in arrival.frame:
            pd.testing.assert_series_equal(arrival.frame.dtypes, expected)
    assert np.isfinite(
        year.rows()[SPEC.features.numeric].to_numpy()[~year.rows()[SPEC.features.numeric].isna()]
    ).all()


def test_the_demo_block_is_a_valid_spec() -> None:
    assert SPEC.source.updated == "updated_at"
    assert SPEC.features.sensitive == ["customer_age", "region"]

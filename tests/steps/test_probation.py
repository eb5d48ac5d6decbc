"""The champion guarded: what sends it back by itself, what does not, and that it happens once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient, MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE

import flows.monitor
from tasks import probation
from tasks.core.dataset import Dataset
from tasks.core.errors import RegistryError, RegistryUnavailable
from tasks.core.evaluation.metrics import score
from tasks.core.model.bundle import GOLDEN, MANIFEST, MODEL, digest_of
from tasks.core.window import Window
from tasks.probation import Guarded, guard_files, guard_promise, judge_champion
from tasks.settings import Settings
from tasks.store import checks, ledger, registry
from tasks.store.engine import open_store
from tasks.store.mlflow_client import open_client
from tasks.store.models import load_model, save_model
from tasks.versions import damage, same_rows
from tasks.versions.move import Promotion
from tests.copied import copy_place
from tests.loop.plainly import plainly
from tests.make import make_frame, make_spec
from tests.versions import LATER, SMALL, SPEC_, Made, Version, a_version, files_of, moved

WEEK = timedelta(days=7)
NOW = LATER + 6 * WEEK


@pytest.fixture(scope="module")
def original(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where versions 1 and 2 served, a week each, made once."""
    folder = tmp_path_factory.mktemp("original") / "state"
    shutil.copytree(fresh, folder)
    place = Settings(state_dir=folder, threads=1, probe="here")
    for number in range(2):
        version = a_version(made, place, f"a{number + 1}")
        moved(version, place, f"d{number + 1}", as_of=LATER + number * WEEK)
    return folder


@pytest.fixture
def two(original: Path, place: Settings) -> list[Version]:
    """Versions 1 and 2 served in this test's own copy of that place; 2 serves."""
    copy_place(original, place)
    return [registry.find_version("churn", number, settings=place) for number in (1, 2)]


def files(place: Settings, **over: Any) -> Guarded:
    return guard_files.fn(SPEC_, **{"as_of": NOW, "settings": place, **over})


def promise(place: Settings, rows: Dataset | None = None, **over: Any) -> Guarded:
    judged = judge_champion.fn(SPEC_, **{"as_of": NOW, "settings": place, **over})
    return guard_promise.fn(SPEC_, judged, rows, **{"as_of": NOW, "settings": place, **over})


def serving(place: Settings) -> int | None:
    found = registry.find_champion(SPEC_.name, settings=place)
    return found.number if found else None


def moves(place: Settings) -> list[tuple[str, int | None, int | None, str]]:
    rows = ledger.history(open_store(place), SPEC_.name)
    return [(row.action, row.from_version, row.to_version, row.actor) for row in rows]


def entered(place: Settings, action: ledger.Action, number: int, at: datetime) -> None:
    """Put a row that moved nothing into the ledger."""
    ledger.record(
        open_store(place), model=SPEC_.name, decision_id=f"e{number}", action=action, from_version=2,
        to_version=number, actor="retrain", reason="test", at=at,
    )  # fmt: skip


PROMOTIONS = [("promoted", None, 1, "gate"), ("promoted", 1, 2, "gate")]
WENT_BACK = ("rolled_back", 2, 1, "monitor")


def harm(version: Version, name: str, place: Settings) -> None:
    """Damage one file of a version, in the registry only."""
    path = files_of(version) / name
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-7])
    del place


# Damage.


def test_a_champion_that_is_fine_stays_and_nothing_is_written(two: list[Version], place: Settings) -> None:
    assert files(place).action == "nothing"
    assert moves(place) == PROMOTIONS
    assert serving(place) == 2


def test_a_model_without_a_champion_is_left_alone(place: Settings) -> None:
    assert files(place) == Guarded("nothing", "no version serves yet")


@pytest.mark.parametrize("name", [MODEL, GOLDEN, MANIFEST])
@pytest.mark.parametrize("is_missing", [True, False])
def test_a_damaged_champion_goes_back_to_the_version_before_once(
    name: str, is_missing: bool, two: list[Version], place: Settings
) -> None:
    if is_missing:
        (files_of(two[1]) / name).unlink()
    else:
        harm(two[1], name, place)
    done = files(place)
    assert (done.action, done.from_version, done.version) == ("rolled back", 2, 1)
    assert done.digest == two[0].digest
    assert "version 2 cannot serve" in done.why
    assert serving(place) == 1
    assert moves(place) == [*PROMOTIONS, WENT_BACK]
    again = files(place, as_of=NOW + WEEK)
    assert (again.action, again.decision_id, again.why) == ("rolled back", done.decision_id, done.why)
    assert moves(place) == [*PROMOTIONS, WENT_BACK]


def test_a_champion_that_answers_otherwise_goes_back(
    two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = registry.load_checked

    def other_answers(folder: Path, manifest: Any, **given: Any) -> Any:
        if manifest.attempt == "a2":
            raise RegistryError("a model that gives 3 other labels", "the answers it gave")
        return real(folder, manifest, **given)

    monkeypatch.setattr(registry, "load_checked", other_answers)
    done = files(place)
    assert (done.action, serving(place)) == ("rolled back", 1)
    assert "3 other labels" in done.why


def test_a_version_that_is_gone_from_the_registry_goes_back(two: list[Version], place: Settings) -> None:
    open_client(place).delete_model_version("churn", "2")
    done = files(place)
    assert (done.action, done.from_version, serving(place)) == ("rolled back", 2, 1)
    assert "gone from the registry" in done.why
    assert moves(place)[-1] == ("rolled_back", None, 1, "monitor")


def test_a_version_whose_digest_was_rewritten_goes_back(two: list[Version], place: Settings) -> None:
    open_client(place).set_model_version_tag("churn", "2", registry.TAG_DIGEST, two[0].digest)
    assert files(place).action == "rolled back"
    assert serving(place) == 1


def test_an_alias_moved_by_hand_moves_nothing(two: list[Version], place: Settings) -> None:
    open_client(place).set_registered_model_alias("churn", "champion", "1")
    assert files(place).action == "nothing"
    assert moves(place) == PROMOTIONS


@pytest.mark.parametrize(
    "fault",
    [
        ConnectionError("no route"),
        TimeoutError("slow"),
        MemoryError(),
        MlflowException("busy", error_code=TEMPORARILY_UNAVAILABLE),
    ],
)
def test_files_that_cannot_be_fetched_just_now_move_nothing(
    fault: BaseException, two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(registry, "_download", broken)
    with pytest.raises(RegistryUnavailable):  # the task is tried again
        files(place)
    assert serving(place) == 2
    assert moves(place) == PROMOTIONS


@pytest.mark.parametrize("method", ["get_model_version_by_alias", "search_registered_models"])
def test_a_registry_that_does_not_answer_moves_nothing(
    method: str, two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MlflowException("gone", error_code=RESOURCE_DOES_NOT_EXIST)  # as of a wrong address

    harm(two[1], MODEL, place)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, method, broken)
        assert files(place).action in {"nothing", "failed"}
    assert serving(place) == 2
    assert moves(place) == PROMOTIONS


def test_the_whole_store_of_files_gone_moves_nothing_and_people_are_told(
    two: list[Version], place: Settings
) -> None:
    for version in two:  # a disk that is not mounted looks like this
        files_of(version).rename(files_of(version).with_name("elsewhere"))
    done = files(place)
    assert (done.action, done.cause, serving(place)) == ("failed", probation.BROKEN, 2)
    assert "restore its files" in done.why
    for version in two:
        files_of(version).with_name("elsewhere").rename(files_of(version))
    assert files(place) == Guarded("nothing", over=(probation.BROKEN, "automatic rollback of v1"))


def test_damage_to_two_versions_goes_further_back(two: list[Version], made: Made, place: Settings) -> None:
    three = a_version(made, place, "a3")
    moved(three, place, "d3", as_of=LATER + 2 * WEEK)
    harm(three, MODEL, place)
    harm(two[1], MODEL, place)
    done = files(place)
    assert (done.action, done.from_version, done.version) == ("rolled back", 3, 1)


def test_the_first_version_has_nothing_to_go_back_to(made: Made, place: Settings) -> None:
    one = a_version(made, place)
    moved(one, place)
    harm(one, MODEL, place)
    done = files(place)
    assert (done.action, serving(place)) == ("failed", 1)
    assert "no version served before" in done.why


def test_damage_that_was_gone_a_moment_later_moves_nothing(
    two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    real = damage.registry.load_checked

    def flickers(folder: Path, manifest: Any, **given: Any) -> Any:
        looks.append(1)
        if len(looks) == 1:
            raise RegistryError("a file half written")
        return real(folder, manifest, **given)

    monkeypatch.setattr(registry, "load_checked", flickers)
    assert "a moment later" in files(place).why
    assert serving(place) == 2


def test_a_rollback_that_died_between_its_steps_is_finished(
    two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowClient.set_registered_model_alias

    def dies(client: MlflowClient, *args: str) -> None:
        real(client, *args)
        raise KeyboardInterrupt

    harm(two[1], MODEL, place)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", dies)
        with pytest.raises(KeyboardInterrupt):
            files(place)
    assert serving(place) == 1
    done = files(place)
    assert (done.action, done.version, serving(place)) == ("rolled back", 1, 1)
    assert moves(place) == [*PROMOTIONS, WENT_BACK]


def test_a_moment_before_the_champion_came_to_serve_moves_nothing_and_people_are_told(
    two: list[Version], place: Settings
) -> None:
    harm(two[1], MODEL, place)
    done = files(place, as_of=LATER)
    assert (done.action, done.cause, serving(place)) == ("failed", probation.BROKEN, 2)
    assert "its promotion is dated 2026-02-11 00:00 UTC" in done.why
    assert moves(place) == PROMOTIONS


@pytest.mark.parametrize("action", ["kept", "skipped", "refused"])
def test_a_row_of_the_future_that_moved_nothing_stops_no_rollback(
    action: ledger.Action, two: list[Version], place: Settings
) -> None:
    entered(place, action, 9, NOW + 50 * WEEK)
    harm(two[1], MODEL, place)
    assert (files(place).action, serving(place)) == ("rolled back", 1)


def test_a_move_of_the_future_that_another_followed_stops_no_rollback(
    two: list[Version], made: Made, place: Settings
) -> None:
    three, four = (a_version(made, place, f"a{number}") for number in (3, 4))
    moved(three, place, "d3", as_of=NOW + 50 * WEEK)
    moved(four, place, "d4", as_of=LATER + 2 * WEEK)
    harm(four, MODEL, place)
    assert (files(place).action, serving(place)) == ("rolled back", 3)


# The promise.


def week(number: int) -> Window:
    """Return the week of this number after version 2 began to serve."""
    return Window(LATER + number * WEEK, LATER + (number + 1) * WEEK)


def judged(place: Settings, *outcomes: str, version: int = 2) -> None:
    for number, outcome in enumerate(outcomes, start=1):
        checks.record(
            open_store(place), model="churn", kind="performance", window=week(number),
            version=version, outcome=outcome, summary={},
        )  # fmt: skip


def test_a_champion_that_breaks_its_promise_twice_in_its_first_windows_goes_back_once(
    two: list[Version], place: Settings
) -> None:
    judged(place, "drift")
    assert promise(place).action == "nothing"
    judged(place, "drift", "drift")
    done = promise(place)
    assert (done.action, done.from_version, done.version) == ("rolled back", 2, 1)
    assert "broke its promise on probation: 2 of 2 windows" in done.why
    assert promise(place).action == "nothing"
    assert moves(place) == [*PROMOTIONS, WENT_BACK]
    row = ledger.history(open_store(place), "churn")[-1]
    assert row.evidence["probation"] == {"bad": [str(week(1)), str(week(2))], "judged": 2}
    assert row.evidence["instead_of"] == 2


def test_bad_windows_of_the_version_before_are_not_held_against_it(
    two: list[Version], place: Settings
) -> None:
    judged(place, "drift", "drift", "drift", version=1)
    assert promise(place).action == "nothing"


def test_what_was_brought_back_and_the_first_version_are_not_on_probation(
    two: list[Version], made: Made, place: Settings
) -> None:
    judged(place, "drift", "drift")
    promise(place)
    judged(place, "drift", "drift", version=1)
    assert judge_champion.fn(SPEC_, as_of=NOW, settings=place).outcome == "not on probation"
    assert promise(place).action == "nothing"
    moved(two[1], place, "d9", as_of=NOW, actor="ann")
    assert promise(place, as_of=NOW + WEEK).action == "nothing", "a person brought it back, knowing"


def test_a_spec_without_probation_sends_nothing_back(two: list[Version], place: Settings) -> None:
    judged(place, "drift", "drift")
    spec = SPEC_.model_copy(update={"gate": SPEC_.gate.model_copy(update={"probation": 0})})
    found = judge_champion.fn(spec, as_of=NOW, settings=place)
    assert guard_promise.fn(spec, found, as_of=NOW, settings=place).action == "nothing"


def test_the_future_is_not_seen(two: list[Version], place: Settings) -> None:
    judged(place, "drift", "drift")
    assert judge_champion.fn(SPEC_, as_of=week(1).end, settings=place).outcome == "on probation"


def rows_of(made: Made, place: Settings, *, flipped: bool = False) -> Dataset:
    """Return labelled rows of the bad windows."""
    frame = made.frame.assign(event_time=week(1).start + timedelta(hours=1))
    if flipped:
        frame["churned"] = 1 - frame["churned"]
    path = place.root / "window.parquet"
    frame.to_parquet(path)
    return Dataset(str(path), len(frame), digest_of(path.read_bytes()), week(1))


@pytest.mark.parametrize("is_flipped", [False, True])
def test_going_back_needs_a_version_that_does_no_worse_on_the_bad_windows(
    is_flipped: bool, made: Made, place: Settings, tmp_path: Path
) -> None:
    """Version 2 says the opposite of version 1: on flipped rows, a changed world, it is the better one."""
    contrary = made.frame.assign(churned=1 - made.frame["churned"])
    model = load_model(made.trained.model_path).fit(contrary[SPEC_.features.all], contrary["churned"])
    sha256 = save_model(model, tmp_path / MODEL)
    trained = Made(
        type(made.trained)(
            **{**vars(made.trained), "model_path": str(tmp_path / MODEL), "model_sha256": sha256}
        ),
        *(made.evaluated, made.snapshot, made.frame),
    )
    for number, one in enumerate((made, trained), start=1):
        moved(a_version(one, place, f"a{number}"), place, f"d{number}", as_of=LATER)
    judged(place, "drift", "drift")
    done = promise(place, rows_of(made, place, flipped=is_flipped))
    assert (done.action, serving(place)) == (("nothing", 2) if is_flipped else ("rolled back", 1))
    said = model.predict_proba(made.frame[SPEC_.features.all])
    truth = made.frame["churned"].to_numpy()
    value = score(1 - truth if is_flipped else truth, said[:, 1], said, (0, 1), "roc_auc")
    assert f"roc_auc {value:.3f}"[:11] in done.why


def test_rows_without_labels_or_too_few_leave_the_budget_alone_to_decide(
    two: list[Version], made: Made, place: Settings
) -> None:
    judged(place, "drift", "drift")
    rows = rows_of(made, place)
    frame = made.frame.head(20)
    frame.to_parquet(rows.path)
    assert promise(place, rows).action == "rolled back"


def test_a_version_that_needs_a_column_that_is_gone_is_not_brought_back(
    two: list[Version], made: Made, place: Settings
) -> None:
    judged(place, "drift", "drift")
    rows = rows_of(made, place)
    frame = pd.read_parquet(rows.path)
    for is_few in (False, True):  # whether it can answer shows without labels, and in a few rows
        (frame.head(20) if is_few else frame).drop(columns="spend").to_parquet(rows.path)
        done = promise(place, rows)
        assert (done.action, done.cause, serving(place)) == ("failed", "automatic rollback of v2", 2)
        assert "version 1 cannot be scored on these rows (KeyError), so version 2 stays" in done.why
        assert "promote a version by name" in done.why
        assert "spend" not in done.why, "the text of a foreign error may hold what nobody should read"
    assert moves(place) == PROMOTIONS


def test_only_the_version_before_has_to_answer(
    two: list[Version], made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(place, "drift", "drift")
    real = same_rows._load

    def fails(spec: Any, number: int, place: Settings) -> Any:
        if number == 2:
            raise RegistryError("a damaged file")
        return real(spec, number, place)

    monkeypatch.setattr(same_rows, "_load", fails)
    assert promise(place, rows_of(made, place)).action == "rolled back"


@pytest.mark.parametrize("fault", [TypeError("a row"), RuntimeError("a row"), OverflowError()])
def test_whatever_a_pipeline_raises_on_these_rows_keeps_the_champion(
    fault: Exception, two: list[Version], made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise fault

    judged(place, "drift", "drift")
    monkeypatch.setattr(same_rows, "predict", fails)
    done = promise(place, rows_of(made, place))
    assert (done.action, serving(place)) == ("failed", 2)
    assert "a row" not in done.why


def test_rows_that_cannot_be_read_leave_the_budget_alone_to_decide(
    two: list[Version], made: Made, place: Settings
) -> None:
    judged(place, "drift", "drift")
    rows = rows_of(made, place)
    Path(rows.path).write_bytes(b"no parquet")
    assert promise(place, rows).action == "rolled back"


def test_the_incident_of_a_rollback_that_could_not_be_ends_with_its_reason(
    two: list[Version], made: Made, place: Settings
) -> None:
    judged(place, "drift", "drift")
    rows = rows_of(made, place)
    pd.read_parquet(rows.path).drop(columns="spend").to_parquet(rows.path)
    cause = promise(place, rows).cause
    assert cause not in files(place).over, "it still serves"
    moved(a_version(made, place, "a3"), place, "d3", as_of=NOW)
    assert cause in files(place, as_of=NOW + WEEK).over


def test_a_promotion_dated_ahead_of_the_clock_is_told_where_its_probation_cannot_be_judged(
    two: list[Version], made: Made, place: Settings
) -> None:
    moved(a_version(made, place, "a3"), place, "d3", as_of=datetime.now(UTC) + 50 * WEEK)
    done = promise(place)
    assert (done.action, done.cause) == ("failed", "automatic rollback of v3")
    assert "ahead of this clock" in done.why
    spec = SPEC_.model_copy(update={"gate": SPEC_.gate.model_copy(update={"probation": 0})})
    judged_ = judge_champion.fn(spec, as_of=NOW, settings=place)
    assert guard_promise.fn(spec, judged_, as_of=NOW, settings=place).action == "nothing"


def test_a_look_at_the_past_is_no_alarm(two: list[Version], place: Settings) -> None:
    assert promise(place, as_of=LATER).action == "nothing"


def test_two_monitors_at_once_go_back_once(
    two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(place, "drift", "drift")
    real = probation.move

    def late(*args: Any, **given: Any) -> Promotion:
        monkeypatch.setattr(probation, "move", real)
        assert promise(place).action == "rolled back"  # the other one, in between
        return real(*args, **given)

    monkeypatch.setattr(probation, "move", late)
    assert promise(place).action == "rolled back"
    assert moves(place) == [*PROMOTIONS, WENT_BACK]


def test_what_a_person_promoted_meanwhile_is_not_overruled(
    two: list[Version], made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(place, "drift", "drift")
    three = a_version(made, place, "a3")
    real = probation._as_it_served

    def late(*args: Any) -> Version:
        moved(three, place, "d3", as_of=LATER + 2 * WEEK, actor="ann")
        return real(*args)

    monkeypatch.setattr(probation, "_as_it_served", late)
    assert promise(place).action == "nothing"
    assert moves(place) == [*PROMOTIONS, ("promoted", 2, 3, "ann")]
    assert serving(place) == 3


# The flow.


def test_people_and_the_deployer_hear_of_it_and_of_its_end(
    place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[Any, ...]] = []
    monkeypatch.setattr(flows.monitor, "tell", lambda spec, *told, as_of: heard.append(told))
    monkeypatch.setattr(
        flows.monitor,
        "announce_promotion",
        lambda spec, **given: heard.append(("deployer", given["version"])),
    )
    monkeypatch.setattr(flows.monitor, "settle", lambda spec, cause, as_of: heard.append(("over", cause)))
    back = Guarded("rolled back", "why", "automatic rollback of v2", 2, 1, "auto-1", "d", over=("x",))
    flows.monitor.make_known(SPEC_, back, NOW)
    assert heard == [("over", "x"), ("critical", "automatic rollback of v2", "why"), ("deployer", 1)]
    heard.clear()
    flows.monitor.make_known(SPEC_, Guarded("failed", "why", probation.BROKEN), NOW)
    assert heard == [("critical", probation.BROKEN, "why")]
    heard.clear()
    flows.monitor.make_known(SPEC_, Guarded("nothing", over=("x",)), NOW)
    assert heard == [("over", "x")]


def test_a_later_promotion_ends_the_incident(two: list[Version], made: Made, place: Settings) -> None:
    judged(place, "drift", "drift")
    cause = promise(place).cause
    assert files(place).cause == cause
    moved(a_version(made, place, "a3"), place, "d3", as_of=NOW)
    assert files(place, as_of=NOW + WEEK).over == (probation.BROKEN, cause, "automatic rollback of v1")


class Bad:
    """What realised performance says of a version that breaks its promise."""

    outcome = "drift"
    value = 0.5
    labels = None

    def looks(self) -> tuple[()]:
        return ()

    def summary(self) -> dict[str, Any]:
        return {"reason": "fell"}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """The flow `monitor` as a plain function over rows in a file, whatever performance says patched in."""
    plainly(monkeypatch)
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    frame = make_frame(300, start=week(0).start, days=42)
    frame.to_parquet(tmp_path / "rows.parquet")
    source = {"url": str(tmp_path / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}
    spec = make_spec(
        source=source,
        estimator=SMALL,
        gate={"min_rows": 5000},  # too few rows to compare two versions: the error budget alone decides
        retrain={"cooldown": "1d", "max_age": "never"},
    )
    monkeypatch.setattr(flows.monitor, "publish_performance", lambda *_: None)
    monkeypatch.setattr(flows.monitor, "publish_decision", lambda *_: None)
    return lambda **given: flows.monitor.monitor(spec, **given)


def test_the_monitor_goes_on_with_the_version_before_when_the_champion_is_damaged(
    two: list[Version], place: Settings, watch: Callable[..., Any]
) -> None:
    harm(two[1], MODEL, place)
    with pytest.raises(RegistryError):
        watch(as_of=NOW, dry_run=True)
    assert serving(place) == 2, "a look changes nothing"
    found = watch(as_of=NOW)
    assert (found.outcome, serving(place)) == ("undecided", 1)
    assert moves(place) == [*PROMOTIONS, WENT_BACK]


def test_a_broken_promise_sends_back_and_still_asks_for_one_retraining(
    two: list[Version], place: Settings, watch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[tuple[str, int | None]] = []
    monkeypatch.setattr(flows.monitor, "realised_performance", lambda *_, **__: Bad())
    monkeypatch.setattr(
        flows.monitor,
        "launch_retraining",
        lambda spec, decision, as_of: launched.append((decision.id, serving(place))),
    )
    first = watch(as_of=week(1).end + timedelta(days=2))
    assert (first.decision.kind, serving(place)) == ("SKIP", 2)
    second = watch(as_of=week(2).end + timedelta(days=2))
    assert (second.decision.kind, second.decision.cause) == ("TRAIN", "decay")
    assert moves(place) == [*PROMOTIONS, WENT_BACK]
    assert launched == [(second.decision.id, 1)], "the challenger meets the version that was brought back"
    recorded = ledger.decided(open_store(place), "churn", second.decision.id)
    assert recorded is not None
    # The next run judges the version that was brought back, which is not on probation.
    third = watch(as_of=week(3).end + timedelta(days=2))
    assert (third.decision.cause != "decay", serving(place)) == (True, 1)

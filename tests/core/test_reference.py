"""Stored references and profiles: exact, small, and not to be believed unread."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib

import numpy as np
import pandas as pd
import pytest

from tasks.core.drift.chance.calibration import Calibration
from tasks.core.drift.counting.bins import STEP
from tasks.core.drift.profile import Profile, Reference, build_reference, profile_frame
from tasks.core.errors import DriftError
from tests.make import make_frame, make_spec

SPEC = make_spec(window={"training": "28d", "check": "1d"})


@pytest.fixture(scope="module")
def reference():
    frame = make_frame(1500)
    scores = np.random.default_rng(0).random(1500)
    return build_reference(frame, SPEC, scores=scores, times=frame["event_time"])


@pytest.fixture(scope="module")
def text(reference):
    return reference.to_json()


def packed(table):
    planes = np.asarray(table, dtype="<i8").reshape(-1).view(np.uint8).reshape(-1, 8).T
    data = base64.b64encode(zlib.compress(planes.tobytes())).decode()
    return {"shape": list(np.shape(table)), "type": "<i8", "data": data}


def opened(raw):
    planes = np.frombuffer(zlib.decompress(base64.b64decode(raw["data"])), dtype=np.uint8)
    return np.ascontiguousarray(planes.reshape(8, -1).T).view("<i8").reshape(raw["shape"]).copy()


def test_a_deep_reference_survives_json_to_the_last_character(reference, text):
    again = Reference.from_json(text)
    assert again.to_json() == text
    assert again == reference
    assert again.history.profile(range(len(again.history))) == reference.profile
    assert np.array_equal(again.sample.codes, reference.sample.codes)


def test_a_reference_of_format_1_still_reads(reference, text):
    raw = json.loads(text)
    old = {name: raw[name] for name in ("model", "bins", "profile", "key_check")}
    again = Reference.from_json(json.dumps({"format": 1, **old}))
    assert again == reference
    assert (again.history, again.calibration, again.insight, again.sample) == (None, None, None, None)
    assert again.pattern == "none"


def test_a_reference_that_is_not_deep_has_only_its_profile():
    flat = build_reference(make_frame(500), SPEC, deep=False)
    assert (flat.history, flat.calibration, flat.sample) == (None, None, None)
    assert Reference.from_json(flat.to_json()) == flat


def test_ninety_days_of_thirty_features_take_less_than_2_mb(monkeypatch):
    # what is calibrated takes seconds and comes to a few KB
    learnt = Calibration(0.01, (50,), (0.01,))
    monkeypatch.setattr("tasks.core.drift.chance.calibration.calibrate", lambda *_, **__: learnt)
    rng = np.random.default_rng(0)
    rows = 90 * 500
    numeric = {f"n{i}": rng.normal(size=rows) for i in range(25)}
    labels = {f"c{i}": rng.integers(0, 500 if i == 0 else 8, rows) for i in range(5)}
    frame = pd.DataFrame({**numeric, **labels})
    spec = make_spec(
        features={"numeric": list(numeric), "categorical": list(labels)},
        contract={},
        window={"training": "90d", "check": "1d"},
    )
    times = pd.Series(pd.date_range("2026-01-05", periods=rows, freq=pd.Timedelta(days=90) / rows, tz="UTC"))
    deep = build_reference(frame, spec, times=times)
    assert len(deep.history) == 90
    assert len(deep.to_json()) < 2e6  # 1.0 MB; 2.9 MB of numbers, before base64, uncompressed


def on_history(change):
    return lambda raw: change(raw["history"])


def on_table(name, change):
    def damage(raw):
        table = opened(raw["history"]["features"][name])
        change(table)
        raw["history"]["features"][name] = packed(table)

    return damage


def move(table):
    table[0, 5] += 1
    table[1, 5] -= 1


def move_rows(table):
    # one row more in a block, consistently: the block adds up, the blocks no longer do
    table[0, 5] += 1
    table[0, 0] += 1


def negative(table):
    table[0, 5] -= 10**6
    table[0, 6] += 10**6


def bomb(raw):
    data = base64.b64encode(zlib.compress(bytes(10**8), 9)).decode()
    raw["history"]["features"]["spend"]["data"] = data


def truncate(raw):
    raw["history"]["rows"]["data"] = raw["history"]["rows"]["data"][:-8]


@pytest.mark.parametrize(
    "damage",
    [
        on_history(lambda h: h["features"]["spend"].update(shape=[2**40, 2**40])),
        on_history(lambda h: h["features"]["spend"].update(shape=[-1, 5])),
        on_history(lambda h: h["features"]["spend"].update(shape=[28.0, 133])),
        on_history(lambda h: h["features"]["spend"].update(type="<f8")),
        on_history(lambda h: h["features"]["spend"].update(data="not base64!")),
        on_history(lambda h: h["features"]["spend"].update(data=base64.b64encode(b"no zlib").decode())),
        on_history(lambda h: h["features"].pop("spend")),
        on_history(lambda h: h["features"].update(other=h["features"]["spend"])),
        on_history(lambda h: h["widths"].update(spend=3)),
        on_history(lambda h: h.update(reference_id="another")),
        on_history(lambda h: h["starts"].pop()),
        on_history(lambda h: h["starts"].reverse()),
        on_history(lambda h: h.update(starts=[start[:19] for start in h["starts"]])),
        on_history(lambda h: h.update(length_us=None)),
        on_history(lambda h: h.update(length_us=0)),
        on_history(lambda h: h.update(length_us=10**30)),
        on_table("spend", move),
        on_table("spend", move_rows),
        on_table("spend", negative),
        on_table("plan", negative),
        bomb,
        truncate,
        lambda raw: raw["sample"].update(names=["a", "b", "c", "d"]),
        lambda raw: raw["sample"]["codes"].update(shape=[3, 4]),
        lambda raw: raw["sample"]["codes"].update(shape=[1500, 4], data=raw["history"]["rows"]["data"]),
        lambda raw: raw.pop("history"),
        lambda raw: raw.update(history=[]),
        lambda raw: raw.update(sample="x"),
        lambda raw: raw.update(insight={}),
        lambda raw: raw.update(calibration=7),
        lambda raw: raw.update(format=3),
    ],
)
def test_a_damaged_or_hostile_reference_is_refused(text, damage):
    raw = json.loads(text)
    damage(raw)
    with pytest.raises(DriftError, match="cannot be read"):
        Reference.from_json(json.dumps(raw))


def test_deeply_nested_text_is_refused_and_not_a_crash():
    with pytest.raises(DriftError, match="cannot be read"):
        Reference.from_json("[" * 100_000)


def test_a_profile_survives_storage_exactly_and_in_little_room(reference):
    frame = make_frame(800, seed=3)
    profile = profile_frame(frame.drop(columns="plan"), reference, scores=np.linspace(0, 1, 800))
    plain = json.loads(json.dumps(profile.to_plain(reference)))
    assert Profile.from_plain(plain) == profile
    assert len(json.dumps(plain)) < 2500
    empty = profile_frame(frame.iloc[:0], reference)
    assert Profile.from_plain(empty.to_plain(reference)) == empty


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.pop("rows"),
        lambda raw: raw.update(rows=-1),
        lambda raw: raw.update(rows=raw["rows"] + 1),
        lambda raw: raw.update(absent=[1]),
        lambda raw: raw["features"].pop(),
        lambda raw: raw["features"][0].__setitem__(1, 10**9),
        lambda raw: raw["features"][0].__setitem__(2, 1),
        lambda raw: raw["features"].append(raw["features"][0]),
        lambda raw: raw["numbers"].update(shape=[1, 10**12]),
        lambda raw: raw["numbers"].update(data=""),
    ],
)
def test_a_damaged_profile_is_refused(reference, damage):
    plain = json.loads(json.dumps(profile_frame(make_frame(100), reference).to_plain(reference)))
    damage(plain)
    with pytest.raises(DriftError, match="cannot be read"):
        Profile.from_plain(plain)


def test_a_stored_profile_does_not_tell_a_sensitive_value():
    features = {"numeric": ["tenure", "spend"], "categorical": [], "sensitive": ["spend"]}
    spec = make_spec(features=features, contract={})
    reference = build_reference(make_frame(800), spec, deep=False)
    window = make_frame(1, seed=9)
    profile = profile_frame(window, reference)
    stored = Profile.from_plain(profile.to_plain(reference))
    bins = {cell.name: cell for cell in reference.bins}

    def told(name):
        return sum(stored.features[name].sums) * STEP * bins[name].scale + bins[name].center

    assert told("tenure") == pytest.approx(window["tenure"].iloc[0], rel=1e-3)
    assert told("spend") != pytest.approx(window["spend"].iloc[0], rel=1e-3)
    assert stored.features["spend"].cells == profile.features["spend"].cells


def test_importing_profiles_loads_no_model_library():
    script = (
        "import sys, tasks.core.drift.profile;"
        "print([name for name in ('pandas', 'sklearn', 'scipy', 'prefect', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

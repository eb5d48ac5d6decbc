from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.arrows import ROOMS, broken_arrows, imports, sources

ROOT = Path(__file__).parents[2]
PROBE = Path(__file__).with_name("import_probe.py")
OURS = sources(ROOT)
SCRIPT = re.compile(r"\.migrations\.(env|versions\..*)$")


def probe(modules: list[str], folder: Path, *, first: tuple[str, ...] = (), path: Path = ROOT) -> list[dict]:
    """Import the modules in a fresh process whose working directory is `folder`; return what each did."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("EVERGREEN_", "PREFECT_"))
    }
    environment |= {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder / "home")}
    environment |= {"PREFECT_HOME": str(folder / "home"), "MPLCONFIGDIR": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, str(PROBE), ",".join(first), *modules],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    errors = {one["module"]: one["error"] for one in found if one["error"]}
    assert not errors, errors
    return found


def in_rooms(*rooms: str) -> list[str]:
    """Modules of these rooms; Alembic's scripts are left out, which it runs itself and nobody imports."""
    return sorted(
        name
        for name in OURS
        if any(name == room or name.startswith(f"{room}.") for room in rooms) and not SCRIPT.search(name)
    )


# The project itself.


def test_no_module_imports_against_the_arrows() -> None:
    assert broken_arrows(OURS) == []


def test_the_rooms_that_are_checked_are_those_that_exist() -> None:
    assert {"flows.retrain", "tasks.core.policy.decision", "tasks.store.engine", "serving"} <= set(OURS)
    packages = {path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")}
    assert packages <= set(ROOMS), "a new room needs its line in the table of arrows"


def test_core_store_and_serving_load_neither_prefect_nor_mlflow_nor_alibi_detect(tmp_path: Path) -> None:
    modules = in_rooms("tasks.core", "tasks.store", "serving")
    found = probe(modules, tmp_path)
    assert [one["module"] for one in found] == modules
    assert {one["module"]: one["loaded"] for one in found if one["loaded"]} == {}


def test_no_import_writes_a_file_or_opens_a_socket(tmp_path: Path) -> None:
    modules = in_rooms("tasks", "serving", "flows", "deployments")
    # What other people's packages do when they are first imported is theirs; ours starts after that.
    others = {
        one.name
        for name in modules
        for one in imports(name, OURS[name], OURS)
        if one.at_import and one.name.split(".")[0] not in {*ROOMS, "__future__"}
    }
    found = probe(modules, tmp_path, first=tuple(sorted(others)))
    assert [one["module"] for one in found] == modules
    assert {one["module"]: one["did"] for one in found if one["did"]} == {}
    left = [path.name for path in tmp_path.iterdir() if path.name != "home"]
    assert left == [], "importing wrote into the working directory"


# The checker: each rule, broken on purpose.

PLANTED = [
    ("tasks.core.rule", "import tasks.fetch", "may not import tasks.fetch"),
    ("tasks.core.rule", "from tasks import fetch", "may not import tasks.fetch"),
    ("tasks.core.rule", "from .. import fetch", "may not import tasks.fetch"),
    ("tasks.core.rule", "from ..fetch import fetch_window", "may not import tasks.fetch"),
    ("tasks.core.rule", "from tasks.settings import Settings", "may not import tasks.settings"),
    ("tasks.core.rule", "from tasks.store import checks", "may not import tasks.store.checks"),
    ("tasks.core.rule", "from prefect import task", "not prefect"),
    ("tasks.core.rule", "def f():\n    import mlflow", "not mlflow"),
    ("tasks.core.rule", "import httpx", "not httpx"),
    ("tasks.core.rule", "import sqlalchemy as sa", "not sqlalchemy"),
    ("tasks.core.rule", "import sqlite3", "no use for sqlite3"),
    ("tasks.core.rule", "def f():\n    from urllib.request import urlopen", "no use for urllib"),
    ("tasks.store.checks", "import prefect", "may never import prefect"),
    ("tasks.store.checks", "def f():\n    from prefect import task", "may never import prefect"),
    ("tasks.store.checks", "import mlflow", "imports mlflow at import time"),
    ("tasks.store.checks", "from tasks.log import task_logger", "may not import tasks.log"),
    ("tasks.fetch", "from tasks import validate", "may not import tasks.validate"),
    ("tasks.fetch", "def f():\n    from tasks.validate import validate", "may not import tasks.validate"),
    ("tasks.fetch", "from . import validate", "may not import tasks.validate"),
    ("tasks.fetch", "from flows.retrain import retrain", "may not import flows.retrain"),
    ("tasks.fetch", "from serving import app", "may not import serving.app"),
    ("tasks.fetch", "import tests.make", "may not import tests.make"),
    ("tasks.drift", "import alibi_detect.cd", "imports alibi_detect at import time"),
    ("tasks.drift", "class A:\n    import alibi_detect", "imports alibi_detect at import time"),
    (
        "tasks.drift",
        "try:\n    import mlflow\nexcept ImportError:\n    pass",
        "imports mlflow at import time",
    ),
    ("tasks.drift", "from tasks.sources import sql", "may not import tasks.sources.sql"),
    ("tasks.settings", "from tasks.log import task_logger", "may not import tasks.log"),
    ("tasks", "from tasks.fetch import fetch_window", "may not import tasks.fetch"),
    ("serving.app", "from tasks.fetch import fetch_window", "may not import tasks.fetch"),
    ("serving.app", "from tasks.log import task_logger", "may not import tasks.log"),
    ("serving.app", "from prefect import flow", "may never import prefect"),
    ("serving.app", "import flows", "may not import flows"),
    ("flows.monitor", "from flows.retrain import retrain", "may not import flows.retrain"),
    ("flows.monitor", "from . import retrain", "may not import flows.retrain"),
    ("flows.monitor", "import pandas as pd", "not pandas"),
    ("flows.monitor", "import deployments.fleet", "may not import deployments.fleet"),
    ("deployments.fleet", "from tasks.fetch import fetch_window", "may not import tasks.fetch"),
    ("deployments.fleet", "import bench.speed", "may not import bench.speed"),
]
ALLOWED = [
    ("tasks.core.rule", "import json, math\nimport pandas as pd\nfrom tasks.core.spec import ModelSpec"),
    ("tasks.core.rule", "from . import spec\nfrom .spec import ModelSpec"),
    (
        "tasks.store.checks",
        "import sqlalchemy\nfrom tasks.core import spec\nfrom tasks.settings import Settings",
    ),
    ("tasks.fetch", "from tasks.sources import sql\nfrom tasks.store.checks import record\nimport prefect"),
    ("tasks.drift", "def f():\n    from alibi_detect.cd import TabularDrift\n    import mlflow"),
    ("tasks.drift", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mlflow"),
    ("serving.app", "import fastapi\nfrom tasks.store import checks\nfrom tasks.core.spec import ModelSpec"),
    (
        "flows.monitor",
        "from prefect import flow\nfrom tasks.fetch import fetch_window\nfrom tasks import fetch",
    ),
    ("flows.replay", "from flows.retrain import retrain\nfrom flows import monitor"),
    ("deployments.fleet", "from flows.retrain import retrain\nimport prefect, yaml"),
    ("tests.core.test_rule", "import mlflow\nfrom flows import retrain\nimport bench.speed"),
]
STUBS = dict.fromkeys(
    [
        *("tasks", "tasks.core", "tasks.core.spec", "tasks.core.rule", "tasks.store", "tasks.store.checks"),
        *("tasks.fetch", "tasks.validate", "tasks.drift", "tasks.settings", "tasks.log", "tasks.sources"),
        *("tasks.sources.sql", "flows", "flows.retrain", "flows.monitor", "flows.replay", "serving"),
        *("serving.app", "deployments", "deployments.fleet", "bench", "bench.speed", "tests", "tests.make"),
        "tests.core.test_rule",
    ],
    "",
)


@pytest.mark.parametrize(("module", "source", "why"), PLANTED, ids=[f"{m}: {s}" for m, s, _ in PLANTED])
def test_a_planted_import_against_the_arrows_is_found(module: str, source: str, why: str) -> None:
    broken = broken_arrows({**STUBS, module: source})
    assert len(broken) == 1, broken
    assert broken[0].startswith(f"{module}:")
    assert broken[0].endswith(why) or why in broken[0]


@pytest.mark.parametrize(("module", "source"), ALLOWED, ids=[f"{m}: {s}" for m, s in ALLOWED])
def test_what_the_arrows_allow_is_not_reported(module: str, source: str) -> None:
    assert broken_arrows({**STUBS, module: source}) == []


def test_every_broken_line_of_a_file_is_reported_with_its_number() -> None:
    text = "import json\nimport httpx\n\ndef f():\n    import tasks.fetch\n    import mlflow\n"
    found = broken_arrows({**STUBS, "tasks.core.rule": text})
    assert [line.split(":")[1] for line in found] == ["2", "5", "6"]


PROBED = [
    ("open('trace.txt', 'w').close()", "open"),
    ("import pathlib; pathlib.Path('trace.txt').touch()", "open"),
    ("import os; os.open('trace.txt', os.O_CREAT | os.O_RDWR)", "open"),
    ("import os; os.makedirs('state')", "os.mkdir"),
    ("import sqlite3; sqlite3.connect('store.db').close()", "sqlite3.connect"),
    ("import socket; socket.socket().close()", "socket.__new__"),
    ("import socket; socket.gethostbyname('localhost')", "socket.gethostbyname"),
    ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
    ("import os; os.environ['X'] = '1'", "os.putenv"),
]


@pytest.mark.parametrize(("source", "event"), PROBED, ids=[source for source, _ in PROBED])
def test_a_module_that_acts_when_imported_is_caught(tmp_path: Path, source: str, event: str) -> None:
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "quiet.py").write_text(
        "import json\nfrom pathlib import Path\nTEXT = Path(__file__).read_text()\n"
    )
    (package / "busy.py").write_text(f"from planted import quiet\n{source}\n")
    quiet, busy = probe(["planted.quiet", "planted.busy"], tmp_path, path=tmp_path)
    assert quiet["did"] == []
    assert any(line.startswith(event) for line in busy["did"]), busy


def test_a_module_that_loads_a_watched_package_is_caught(tmp_path: Path) -> None:
    (tmp_path / "mlflow.py").write_text("")
    (tmp_path / "near.py").write_text("")
    (tmp_path / "far.py").write_text("import near\nimport mlflow\n")
    found = probe(["near", "far"], tmp_path, path=tmp_path)
    assert [one["loaded"] for one in found] == [[], ["mlflow"]]


def test_a_module_that_cannot_be_imported_fails_the_probe(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with pytest.raises(AssertionError, match="no_such_module"):
        probe(["broken"], tmp_path, path=tmp_path)

# Every target does its own set-up; a second call installs nothing.
# The first that runs and fits: a name on the PATH may be a shim with nothing behind it.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c '$(FITS)' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
export UV_COMPILE_BYTECODE = 1
export MLFLOW_DISABLE_TELEMETRY = true
export DO_NOT_TRACK = true

.PHONY: help demo serve up status down test bench check lock clean
help: ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

demo: $(VENV)/run ## replay a simulated year through the real flows; writes .evergreen/replay/demo/report.html
	$(BIN)/python flows/replay.py --model demo --simulate year

serve: $(VENV)/run ## answer requests for every model of prefect.yaml on 127.0.0.1:8000 (ARGS=--port N)
	$(BIN)/python -m serving --config prefect.yaml $(ARGS)

up: $(VENV)/run ## Prefect server, worker, MLflow and the app on this machine, with the deployments; Ctrl-C ends them (ARGS=--detach)
	@$(BIN)/python deployments/up.py $(ARGS)

status: ## show what `make up` runs and where
	@$(BIN)/python deployments/up.py status || true

down: ## end what `make up` runs, and nothing else
	@$(BIN)/python deployments/up.py down

test: $(VENV)/dev ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow" --durations=20

bench: $(VENV)/dev ## measure: drift checks, the gate, registration, events on a real server (hours; see bench/README.md)
	$(BIN)/python -m bench.profile_speed
	$(BIN)/python -m bench.false_alarms
	$(BIN)/python -m bench.speed_beside_peers
	$(BIN)/python -m bench.alarms_beside_peers --out .evergreen/bench
	$(BIN)/python -m bench.gate
	$(BIN)/python -m bench.fresh
	$(BIN)/python -m bench.registration
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.serving
	$(BIN)/python -m tests.faults.failing retrain
	$(BIN)/python -m tests.faults.failing monitor
	EVERGREEN_TEST_KILLS=5 $(BIN)/python -m pytest -q tests/faults/test_kill_moves.py
	$(BIN)/python -m pytest -q -s -m slow

check: $(VENV)/dev ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: $(VENV)/dev ## resolve the lock files anew (hashes, no addresses)
	$(UV_LOCK) --extra build -o requirements.lock
	$(UV_LOCK) --extra build --extra dev -c requirements.lock -o requirements-dev.lock

clean: ## remove the environment; state in .evergreen/ stays
	rm -rf $(VENV)

# The stamp of an environment is newer than what it was installed from.
$(VENV)/run: requirements.lock pyproject.toml
	@$(SETUP) requirements.lock
	@touch $@

$(VENV)/dev: requirements.lock requirements-dev.lock pyproject.toml
	@$(SETUP) requirements-dev.lock
	@touch $(VENV)/run $@

UV_LOCK = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet
SETUP = sh deployments/setup.sh "$(PYTHON)" "$(VENV)"

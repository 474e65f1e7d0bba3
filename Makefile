# Every command sets up what it needs in .venv and nowhere else. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= out/demo
CORPUS ?= examples/corpus
RECIPE ?= laptop

.PHONY: help setup demo test flink-test lint bench lock clean
.DEFAULT_GOAL := help

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf " make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with the locked packages (about 6.4 GB, 2-4 minutes)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "longreel needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": name one with make PYTHON=python3.12")'
	@echo "installing the locked packages into $(VENV) (about 6.4 GB, 2-4 minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "installed."

demo: $(READY) ## the whole road on examples/corpus, and a report
	@$(BIN)/longreel run $(CORPUS) --recipe $(RECIPE) --out $(OUT)

test: $(READY) ## all tests (needs no GPU, no network, no ffmpeg)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

flink-test: $(READY) ## same bytes on Flink as locally (needs Java, Maven)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/pipelines/flink_curation.py $(CORPUS)

lint: $(READY) ## ruff, mypy, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: demo ## the short benchmarks, on the demo; benchmarks/README.md lists all
	@for name in model_cpu indexer_recall curate_vs_peers; do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

lock: ## write requirements.lock anew from the newest packages
	@rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --quiet setuptools wheel ".[dev]"
	@{ echo '# Every package of the environment, locked. `make setup` installs exactly these; `make lock` writes this file anew.'; \
	   $(VENV)/lock/bin/python -m pip freeze --all --exclude longreel --exclude pip | sed -E 's/^((nvidia|cuda|triton|duckdb-cli)[^ ]*)$$/\1 ; sys_platform == "linux"/'; } > requirements.lock
	@rm -rf $(VENV)/lock

clean: ## remove what the demo made
	@rm -rf out

# Everything from a fresh clone; needs Python 3.11 and nothing else. `make help` lists the targets.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types format benchmark benchmark-quality benchmark-separation constraints clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 22

setup: $(READY) ## the virtual environment, with pip, at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --editable ".[dev]"
	@touch $(READY)

demo: $(READY) ## the whole main job on the bundled music, no downloads
	$(BIN)/stemwright demo

test: $(READY) ## the tests that take minutes at most
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(READY) ## the tests that take longer
	$(BIN)/pytest -m slow

lint: $(READY) ## ruff, and the arrows between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY) ## mypy --strict
	$(BIN)/mypy

format: $(READY) ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(READY) ## measure: memory, speed, the pipeline's own cost, waiting for services, the quality score
	$(BIN)/python -m tests.benchmarks.normalize_memory
	$(BIN)/python -m tests.benchmarks.separation_memory
	$(BIN)/python -m tests.benchmarks.pipeline_cost
	$(BIN)/python -m tests.benchmarks.embedded_model
	$(BIN)/python -m tests.benchmarks.endpoint
	$(BIN)/python -m tests.benchmarks.polling
	$(BIN)/python -m tests.benchmarks.catalog_cost
	$(BIN)/python -m tests.benchmarks.quality.cost
	$(BIN)/python -m tests.benchmarks.readme
	$(MAKE) benchmark-quality

benchmark-separation: $(READY) ## full-size HTDemucs beside stock demucs and peers, in speed and memory, and on a GPU if there is one; hours
	$(BIN)/python -m tests.benchmarks.separation_speed
	$(BIN)/python -m tests.benchmarks.separation_memory --model random_htdemucs
	$(BIN)/python -m tests.benchmarks.gpu

QUALITY := build/quality

benchmark-quality: $(READY) $(QUALITY)/training/.ready ## what the quality score predicts; an hour and 10 GB the first time
	$(BIN)/python -m tests.benchmarks.quality.corpus $(QUALITY)
	$(BIN)/python -m tests.benchmarks.quality.report $(QUALITY)

$(QUALITY)/training/.ready:
	$(BIN)/python -m tests.data.studio.training_data $(QUALITY)/music --pieces 140
	$(BIN)/python -m tests.benchmarks.quality.stages $(QUALITY)/music $(QUALITY)/training
	$(BIN)/python -m tests.benchmarks.quality.recurrent $(QUALITY)/music $(QUALITY)/training
	@touch $@

constraints: $(READY) ## write constraints.txt anew from what is installed
	@{ grep '^#' constraints.txt; $(BIN)/pip freeze --exclude-editable | grep -v '^#' | sed 's/+cpu$$//' | sort -f; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove what make made; never a library
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

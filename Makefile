# make demo: install, render the demo data, run the workflow.   make test: install, run the tests.
# make bench: every stage beside its reference, up to 20 minutes.   make bench-quick: that the arms run and agree.
# make test-slurm: run the workflow on a SLURM of one node, which is installed by apt-get (as root) and stopped again.
PYTHON ?= python3.11
CORES ?= 2
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: help install demo test test-slurm lint bench bench-quick clean

help:
	@grep -E '^# make' Makefile | sed 's/^# //'

install: .venv/installed

# torch first and with its dependencies: which ones it has (CUDA or none) depends on the build that the machine gets.
.venv/installed: envs/lock.txt pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo "affpipe: want $(PYTHON), got none; install it or run make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint envs/lock.txt torch torchvision
	$(PIP) install --quiet --no-deps --requirement envs/lock.txt
	$(PIP) install --quiet --no-deps --editable .
	@touch $@

demo: install
	$(BIN)/affpipe demo render demo --jobs $(CORES)
	$(BIN)/affpipe weights tiny weights
	$(BIN)/snakemake --cores $(CORES) --quiet rules
	$(BIN)/affpipe evaluate --run results/demo
	@echo "Report: results/demo/report.html   Predictions: results/demo/predictions/"

test: install
	$(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

test-slurm: install
	$(BIN)/python -m pytest tests/workflow/slurm

lint: install
	$(BIN)/ruff check affpipe tests benchmarks docs envs
	$(BIN)/ruff format --check affpipe tests benchmarks docs envs
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m benchmarks.speed

bench-quick: install
	$(BIN)/python -m benchmarks.speed --quick

clean:
	rm -rf .venv demo weights cache results logs .snakemake

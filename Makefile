# The door of the house: `make quickstart` and `make test` work on a fresh clone with Python, pip, make and a C compiler.
#
# - The package is installed editable: the code that runs is the code in src/, nothing is installed again after a
#   change, and result cards can name the commit. tests/test_packaging.py proves that the wheel is whole besides.
# - Nothing but constraints.txt decides versions; the build backend is installed from it too, so pip's isolated build
#   (which would take the newest) is switched off.
# - A stamp in .venv says what is installed; only a change of pyproject.toml or constraints.txt installs again.

PYTHON ?= python3
TEST_WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
CARDS ?= results/benchmarks
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Every test process has one thread: with more, two processes on two cores wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint bench support clean

help:
	@echo 'make quickstart   install, then check, train, judge and predict on generated street scenes (5 minutes)'
	@echo 'make test         install, then lint, types and the whole test suite (10 minutes on two cores)'
	@echo 'make lint         lint, format and types alone'
	@echo 'make bench        every benchmark, one card each under $(CARDS) (on an idle machine)'
	@echo 'make support      try every network in every runtime and write the table of it (an hour on two cores)'
	@echo 'make clean        remove .venv and everything that was generated'

quickstart: $(VENV)/installed
	$(BIN)/featherseg quickstart

test: lint
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/python -m pyright --pythonpath $(BIN)/python

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/import_time.py --card $(CARDS)/import_time.json
	$(BIN)/python benchmarks/input_pipeline.py --card $(CARDS)/input_pipeline.json
	$(BIN)/python benchmarks/training_speed.py --card $(CARDS)/training_speed.json
	$(BIN)/python benchmarks/training_memory.py --card $(CARDS)/training_memory.json
	$(BIN)/python benchmarks/freed_memory.py --card $(CARDS)/freed_memory.json
	$(BIN)/python benchmarks/constant_memory.py --card $(CARDS)/constant_memory.json
	$(BIN)/python benchmarks/boundary_target.py --card $(CARDS)/boundary_target.json
	$(BIN)/python benchmarks/affinity.py --card $(CARDS)/affinity.json
	$(BIN)/python benchmarks/affinity.py --size 512 1024 --rounds 3 --without-literal --card $(CARDS)/affinity_large.json
	$(BIN)/python benchmarks/teacher_runtime.py --card $(CARDS)/teacher_runtime.json
	$(BIN)/python benchmarks/depthwise_training.py --card $(CARDS)/depthwise_training.json
	$(BIN)/python benchmarks/pyramid_block.py --card $(CARDS)/pyramid_block.json
	$(BIN)/python benchmarks/label_maps.py --card $(CARDS)/label_maps.json
	$(BIN)/python benchmarks/runtimes.py --card $(CARDS)/runtimes.json
	$(BIN)/python benchmarks/streaming.py --card $(CARDS)/streaming.json
	$(BIN)/python benchmarks/litert_speed.py --card $(CARDS)/litert_speed.json
	$(BIN)/python benchmarks/output_stride.py --card $(CARDS)/output_stride.json
	$(BIN)/python benchmarks/cityscapes_evaluation.py --card $(CARDS)/cityscapes_evaluation.json
	$(BIN)/python benchmarks/kitti_evaluation.py --card $(CARDS)/kitti_evaluation.json
	$(BIN)/python benchmarks/latency_table.py --card $(CARDS)/latency_table.json
	$(BIN)/python benchmarks/search_step.py --card $(CARDS)/search_step.json
	$(BIN)/python benchmarks/nms.py --card $(CARDS)/nms.json
	$(BIN)/python benchmarks/detectors.py --card $(CARDS)/detectors.json

support: $(VENV)/installed-dev
	-$(ONE_THREAD) $(BIN)/python -m pytest tests/deploy/test_exported_networks.py --support-card results/support.json \
	  -n $(TEST_WORKERS) --dist worksteal
	$(BIN)/python docs/make_tables.py

clean:
	rm -rf $(VENV) build dist quickstart .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "featherseg needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/made
	@echo 'Installing featherseg into $(VENV) (some minutes the first time) ...'
	$(PIP_INSTALL) setuptools
	$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/made
	@echo 'Installing featherseg and its tools into $(VENV) (some minutes the first time) ...'
	$(PIP_INSTALL) setuptools
	$(PIP_INSTALL) --no-build-isolation --editable '.[dev,onnx,openvino,litert,executorch,coreml,ray]'
	@touch $(VENV)/installed $@

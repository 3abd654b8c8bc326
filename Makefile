# make serve | test | bench | bench-serving | peers | readme — each creates what it needs
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# PyTriton's stub is linked against the system's libpython: Debian's own interpreter, not another patch release
SYSTEM_PYTHON ?= /usr/bin/python3
PEERS := pytriton mlserver tesseract bentoml litserve
PEER_PYTHON = $(PYTHON)

.PHONY: serve test bench bench-serving peers check readme clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serving: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu]'
	@touch $@

$(VENV)/.testing: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,training,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps brightwind==2.7.0
	@touch $@ $(VENV)/.serving

serve: $(VENV)/.serving
	$(BIN)/python -m api

check: $(VENV)/.testing
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pre-commit run --all-files
	$(BIN)/python -m models check

test: check
	$(BIN)/python -m pytest

bench: $(VENV)/.testing
	$(BIN)/python -m pytest tests/benchmarks -m benchmark -s
	$(MAKE) bench-serving

# needs wrk (apt-get install wrk); servers without an environment under runs/peers are left out
bench-serving: $(VENV)/.testing
	$(BIN)/python -m tests.benchmarks.serving

# environments of the servers compared, about 2 GB; one alone: make runs/peers/mlserver/.ready
peers: $(PEERS:%=runs/peers/%/.ready)

runs/peers/pytriton/.ready: PACKAGES = nvidia-pytriton==0.5.14
runs/peers/pytriton/.ready: PEER_PYTHON = $(SYSTEM_PYTHON)
runs/peers/mlserver/.ready: PACKAGES = mlserver==1.7.1 uvloop==0.21.0 # a newer uvloop ends its workers
runs/peers/tesseract/.ready: PACKAGES = 'tesseract-core[runtime]==1.15.0'
runs/peers/bentoml/.ready: PACKAGES = bentoml==1.4.39
runs/peers/litserve/.ready: PACKAGES = litserve==0.2.19

runs/peers/%/.ready:
	$(PEER_PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES) onnxruntime==1.32.0
	@touch $@

readme: $(VENV)/.testing
	$(BIN)/python -m training readme

clean:
	rm -rf $(VENV) runs

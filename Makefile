# make serve | test | bench | readme — each creates what it needs
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: serve test bench check readme clean

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

readme: $(VENV)/.testing
	$(BIN)/python -m training readme

clean:
	rm -rf $(VENV) runs

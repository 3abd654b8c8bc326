# make serve | test | fault-test | bench | bench-serving | peers | readme | image-check | manifests-check | sbom | locks
# — each creates what it needs
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# PyTriton's stub is linked against the system's libpython: Debian's own interpreter, not another patch release
SYSTEM_PYTHON ?= /usr/bin/python3
PEERS := pytriton mlserver tesseract bentoml litserve
PEER_PYTHON = $(PYTHON)

.PHONY: serve test fault-test bench bench-serving peers tools check readme image-check manifests-check rules sbom locks clean

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
	$(BIN)/python -m tests.benchmarks.graphs
	$(MAKE) bench-serving

# needs wrk (apt-get install wrk); servers without an environment under runs/peers are left out
bench-serving: $(VENV)/.testing
	$(BIN)/python -m tests.benchmarks.serving

# faults against a real process, at most 15 minutes; three of them need root
fault-test: $(VENV)/.testing
	timeout 900 $(BIN)/python -m pytest tests/reliability -m fault --into docs/reliability.md

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

# promtool for the tests of alert rules and metrics, from Debian's package, unpacked and not installed
tools: runs/tools/usr/bin/promtool

runs/tools/usr/bin/promtool:
	mkdir -p runs/tools
	cd runs/tools && apt-get download prometheus && dpkg -x prometheus_*.deb .
	rm runs/tools/prometheus_*.deb

readme: $(VENV)/.testing
	$(BIN)/python -m training readme

# the image, built and run confined without an engine; then one with seven things wrong with it, which has to fail seven times
# needs root and apt-get install buildah podman runc mmdebstrap; PYTHON_IMAGE=… where a registry can be reached
image-check:
	@[ -n "$(PYTHON_IMAGE)" ] || .ci/image/stand_in
	.ci/image/build cpu
	$(PYTHON) .ci/image/check.py localhost/surrogates:cpu docs/deployment.md
	.ci/image/spoil
	$(PYTHON) .ci/image/check.py localhost/surrogates:spoilt; test $$? -eq 7

# what a scanner says of the manifests and the Dockerfile; tests/test_kubernetes.py is part of make test
manifests-check: $(VENV)/.testing runs/tools/checkov/.ready
	PATH="$(abspath $(BIN)):$(abspath runs/tools/checkov/bin):$$PATH" .ci/scan

# the plain alert rules as the Prometheus operator takes them
MONITORING = k8s/components/monitoring
rules:
	{ printf '# rules.yaml, by make rules\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n'; \
	printf '  name: surrogates\n  labels: {app.kubernetes.io/name: surrogates}\nspec:\n'; \
	sed 's/^./  &/' $(MONITORING)/rules.yaml; } > $(MONITORING)/prometheusrule.yaml

# what the image of TARGET contains, as CycloneDX: runs/sbom/TARGET.json
TARGET ?= cpu
sbom: runs/tools/cyclonedx/.ready
	$(PYTHON) -m venv --clear runs/sbom/$(TARGET)
	$(PYTHON) -m pip --python runs/sbom/$(TARGET)/bin/python install --quiet --require-hashes --no-deps --only-binary :all: \
		-r .ci/image/requirements-$(TARGET).txt
	runs/tools/cyclonedx/bin/cyclonedx-py environment runs/sbom/$(TARGET)/bin/python --pyproject pyproject.toml \
		--of JSON -o runs/sbom/$(TARGET).json

# the image's requirements, resolved anew from pyproject.toml; wheels only, hashes, no addresses
LOCK = runs/tools/uv/bin/uv pip compile pyproject.toml --quiet --generate-hashes --no-annotate --no-header \
	--only-binary :all: --python-version 3.11 --python-platform x86_64-manylinux_2_28
locks: runs/tools/uv/.ready
	$(LOCK) --extra cpu --extra redis --extra tracing -o .ci/image/requirements-cpu.txt
	$(LOCK) --extra gpu --extra redis --extra tracing -o .ci/image/requirements-gpu.txt
	$(LOCK) --extra cpu --extra training --extra data -o .ci/image/requirements-training.txt

# tools whose dependencies cannot live beside ours
runs/tools/checkov/.ready: PACKAGES = checkov==3.3.30
runs/tools/cyclonedx/.ready: PACKAGES = cyclonedx-bom==7.5.0
runs/tools/uv/.ready: PACKAGES = uv==0.13.8

runs/tools/%/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES)
	@touch $@

clean:
	[ ! -d runs/image ] || bash .ci/image/engine
	rm -rf $(VENV) runs

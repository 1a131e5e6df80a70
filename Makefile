# `make` lists what there is. Only python3 (3.11 or newer, with venv), make and git are needed; for another
# Python: `make setup PYTHON=python3.12`.
PYTHON ?= python3
BIN := .venv/bin
PROTO_BIN := .venv-proto/bin
# Where `stubs` writes: tests/proto writes a second time elsewhere, and compares.
STUBS := clients/python
# Python has the classes of google.rpc from googleapis-common-protos.
PROTOS := $(sort $(shell find proto -name "*.proto" -not -path "proto/google/*"))

# Any version of a model will do; if there is none, this one is made.
MODELS := fraud credit churn demand
BUNDLES := $(foreach model,$(MODELS),\
	$(firstword $(wildcard models/$(model)/*/manifest.json) models/$(model)/1.0.0/manifest.json))

# A stamp's name holds the digest of what it depends on: a file that is merely touched costs nothing, and a
# clone that has moved is set up again.
digest = $(shell { cat $(1); echo $(CURDIR) $(PYTHON); } | git hash-object --stdin)
INSTALLED := .venv/installed-$(call digest,tests/requirements.txt)
EDITABLE := .venv/editable-$(call digest,tests/requirements.txt pyproject.toml clients/python/pyproject.toml)
PROTO_INSTALLED := .venv-proto/installed-$(call digest,proto/requirements.txt)
MLFLOW_INSTALLED := .venv-mlflow/installed-$(call digest,tests/model_export/registry/server.txt)

.DEFAULT_GOAL := help
.PHONY: help setup serve test golden lint proto stubs proto-lint breaking lock bench image mlflow clean
.PHONY: cluster cluster-down cluster-test cluster-soak

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(EDITABLE) ## install everything, by its lock, into .venv

serve: setup $(BUNDLES) ## start the server on localhost:50051 with four models, and score a row with each
	@$(BIN)/python quickstart.py

test: setup $(PROTO_INSTALLED) ## run the whole test suite
	$(BIN)/python -m pytest -q

golden: setup ## write the rendered manifests that the tests compare with anew
	$(BIN)/python -m pytest -q tests/kustomize/test_golden.py --refresh-golden

.PHONY: monitoring
monitoring: setup ## write dashboards, and the rules for Prometheus' operator, anew
	$(BIN)/python kustomize/monitoring/dashboards.py

lint: setup proto-lint ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy quickstart.py kustomize/monitoring/dashboards.py
	$(BIN)/mypy server/image/check.py server/image/sbom.py
	$(BIN)/forest-gitops lint

proto: proto-lint stubs ## check proto/, and generate the Python stubs from it

stubs: $(PROTO_INSTALLED)
	$(PROTO_BIN)/python -m grpc_tools.protoc --proto_path=proto --python_out=$(STUBS) --pyi_out=$(STUBS) \
		--grpc_python_out=$(STUBS) $(PROTOS)

proto-lint: $(PROTO_INSTALLED)
	$(PROTO_BIN)/buf lint proto
	$(PROTO_BIN)/buf format proto --diff --exit-code

# What clients of the branch's API would notice.
AGAINST := origin/main
breaking: $(PROTO_INSTALLED) ## check that proto/ breaks no client of origin/main, or of `make breaking AGAINST=REVISION`
	git archive --format=tar "$(AGAINST):proto" | $(PROTO_BIN)/buf breaking proto --against -#format=tar

lock: .venv-lock/installed ## pin what the requirements allow; `make lock UPGRADE=--upgrade` takes the newest
	$(COMPILE) proto/requirements.in -o proto/requirements.txt
	$(COMPILE) pyproject.toml clients/python/pyproject.toml --extra export --extra registry --extra traces \
		--extra dev -o tests/requirements.txt
	$(COMPILE) pyproject.toml -c tests/requirements.txt -o server/requirements.txt
	$(COMPILE) pyproject.toml --extra traces -c tests/requirements.txt -o server/requirements-traces.txt
	$(COMPILE) pyproject.toml --extra export -c tests/requirements.txt -o model_export/requirements.txt
	$(COMPILE) pyproject.toml --extra export --extra registry -c tests/requirements.txt \
		-o model_export/registry/requirements.txt
	$(COMPILE) tests/model_export/registry/server.in -o tests/model_export/registry/server.txt
	$(COMPILE) clients/python/pyproject.toml -c tests/requirements.txt -o clients/python/requirements.txt
	@# A pickle is read by the scikit-learn that wrote it.
	for peer in benchmarks/peers/*/; do grep -o '^scikit-learn==[^ ]*' tests/requirements.txt | \
		$(COMPILE) $${peer}requirements.in - -o $${peer}requirements.txt || exit; done
	$(COMPILE) tests/integration/triton/requirements.in -o tests/integration/triton/requirements.txt

# No addresses in a lock: whoever installs has an index of their own.
COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate $(UPGRADE)

bench: setup $(BUNDLES) ## measure the server next to its peers; `make bench NAMES="peers tail"` measures a part
	$(BIN)/python -m benchmarks $(NAMES)

.PHONY: export-image
export-image: ## build the image that makes bundles in a cluster (docs/training.md)
	@TARGET=export BASE='$(BASE)' BUILDER='$(BUILDER)' IMAGE='$(IMAGE)' ENGINE='$(ENGINE)' \
		PIP_CONF='$(PIP_CONF)' CA='$(CA)' server/image/build.sh

image: ## build the image of one bundle: `make image MODEL=fraud VERSION=1.0.0`
	@MODEL='$(MODEL)' VERSION='$(VERSION)' EXTRA='$(EXTRA)' BASE='$(BASE)' BUILDER='$(BUILDER)' IMAGE='$(IMAGE)' ENGINE='$(ENGINE)' \
		PIP_CONF='$(PIP_CONF)' CA='$(CA)' server/image/build.sh

mlflow: $(MLFLOW_INSTALLED) ## install MLflow's own server, its pages included, into .venv-mlflow

# A Kubernetes of one node, Argo CD, a registry and a Git repository on this machine, by root (docs/cluster.md).
NODE := $(BIN)/python -m tests.cluster.node
CLUSTER := /var/lib/forest-cluster/environment

cluster: setup ## make a Kubernetes with Argo CD on this machine
	@$(NODE) up

cluster-down: setup ## remove it, and all that is in it
	@$(NODE) down

cluster-test: setup ## make it, prove on it what commits promise, and remove it
	@$(NODE) build
	@$(NODE) up && trap '$(NODE) down' EXIT && . $(CLUSTER) && $(BIN)/python -m pytest -q -m cluster tests/cluster

cluster-soak: setup ## the same, a hundred times over, with every kind of bad release (about three quarters of an hour)
	@$(NODE) build
	@$(NODE) up && trap '$(NODE) down' EXIT && . $(CLUSTER) && $(BIN)/python -m pytest -q -m cluster tests/cluster --soak

clean: ## remove what the commands above have made, but no model
	rm -rf .venv .venv-proto .venv-mlflow .venv-lock .pytest_cache .ruff_cache .mypy_cache .hypothesis build

models/%/1.0.0/manifest.json: | $(EDITABLE)
	$(BIN)/forest-export $*

$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, and \
	$(PYTHON) is {sys.version.split()[0]}: try `make setup PYTHON=python3.12`")'
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@touch $@

$(EDITABLE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		-e . -e clients/python
	@touch $@

$(PROTO_INSTALLED):
	rm -rf .venv-proto
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r proto/requirements.txt
	@touch $@

$(MLFLOW_INSTALLED):
	rm -rf .venv-mlflow
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r tests/model_export/registry/server.txt
	@touch $@

.venv-lock/installed:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

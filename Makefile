# Every target is one line over the `arriero` command or a test runner; ARGS="..." is passed on.
.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(MAKEFILE_LIST))

PYTHON := .venv/bin/python
ARRIERO := .venv/bin/arriero
RUFF := .venv/bin/ruff
# Asked for only by the targets that use it.
COMPOSE = $(shell docker compose version > /dev/null 2>&1 && echo docker compose || echo podman-compose)
COMPOSE_PROFILES ?= simulator

help: ## List the targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- Stand up ---
run: setup ## Set up, start everything on this machine, ask one question through the queue, stay up until Ctrl-C
	@$(ARRIERO) up $(ARGS)

setup: ## Make .venv and install what the services need, from the lock file
	@sh infra/setup/setup.sh

setup-dev: ## The same, and what the tests and linters need
	@sh infra/setup/setup.sh --dev

gateway: setup ## Start a gateway alone (port 8000)
	@$(PYTHON) -m gateway $(ARGS)

worker: setup ## Start a worker alone (port 3008)
	@$(PYTHON) -m worker $(ARGS)

manager: setup ## Start the model manager alone (port 3009)
	@$(PYTHON) -m manager $(ARGS)

monitor: setup ## Start the system monitor alone (port 3010)
	@$(PYTHON) -m monitor $(ARGS)

simulator: setup ## Start the simulated Ollama alone (port 11434)
	@$(PYTHON) -m infra.simulator $(ARGS)

# --- Operate ---
chat: setup ## Ask something through the queue: make chat ARGS='"Why is the sky blue?"'
	@$(ARRIERO) chat $(ARGS)

health: setup ## Ask every service how it is
	@$(ARRIERO) health $(ARGS)

doctor: setup ## Look for what is wrong here, and say what to do about it
	@$(ARRIERO) doctor $(ARGS)

top: setup ## Watch queue, workers, models, circuits and hosts
	@$(ARRIERO) top $(ARGS)

config-check: setup ## Look at the settings of all services, and start nothing
	@$(ARRIERO) config check $(ARGS)

report: setup ## What the system monitor sees, and what it would change
	@$(ARRIERO) monitor report $(ARGS)

models-list: setup ## Models: where they are, how much they are used, how well they serve
	@$(ARRIERO) models list $(ARGS)

models-preload: setup ## Load the models of MODEL_PRELOAD_LIST, or those given: make models-preload ARGS=mistral
	@$(ARRIERO) models preload $(ARGS)

models-pull: setup ## Download a model: make models-pull ARGS=llama3.2
	@$(ARRIERO) models pull $(ARGS)

models-cleanup: setup ## Delete models nobody uses; shows the plan and asks: make models-cleanup ARGS=--dry-run
	@$(ARRIERO) models cleanup $(ARGS)

queue-stats: setup ## Jobs by state, waiting times, workers
	@$(ARRIERO) queue stats $(ARGS)

queue-clear: setup ## Cancel what waits in the queue
	@$(ARRIERO) queue clear $(ARGS)

circuit-status: setup ## Which hosts and models the circuit breakers hold back
	@$(ARRIERO) circuits status $(ARGS)

circuit-reset: setup ## Close every circuit, or one: make circuit-reset ARGS=host:127.0.0.1:11434
	@$(ARRIERO) circuits reset $(or $(ARGS),--all)

circuit-open: setup ## Hold a circuit open: make circuit-open ARGS="host:127.0.0.1:11434 --for 10m"
	@$(ARRIERO) circuits force-open $(ARGS)

dlq-list: setup ## Jobs that failed for good: make dlq-list ARGS="--reason backend_timeout --since 2h"
	@$(ARRIERO) dlq list $(ARGS)

dlq-show: setup ## One of them, with each error: make dlq-show ARGS=job_...
	@$(ARRIERO) dlq show $(ARGS)

dlq-replay: setup ## Run them again: make dlq-replay ARGS="--all --rate 5/s --model mistral"
	@$(ARRIERO) dlq replay $(ARGS)

dlq-purge: setup ## Forget them for good: make dlq-purge ARGS="--tenant acme"
	@$(ARRIERO) dlq purge $(ARGS)

# --- Containers ---
build: ## Build the image that every service runs in
	@$(COMPOSE) build keys

up: ## Start everything in containers, with secrets made on the first run: make up COMPOSE_PROFILES=gpu,monitoring
	@sh infra/compose/secrets.sh && COMPOSE_PROFILES=$(COMPOSE_PROFILES) $(COMPOSE) up --detach --build $(ARGS)

scale: ## So many workers in containers: make scale WORKERS=5
	@COMPOSE_PROFILES=$(COMPOSE_PROFILES) $(COMPOSE) up --detach --no-recreate --scale worker=$(or $(WORKERS),3)

logs: ## What the containers log, as it comes: make logs ARGS=worker
	@COMPOSE_PROFILES=$(COMPOSE_PROFILES) $(COMPOSE) logs --follow $(ARGS)

down: ## Stop and remove the containers; jobs and keys stay in their volume
	@COMPOSE_PROFILES=$(COMPOSE_PROFILES) $(COMPOSE) down --remove-orphans $(ARGS)

compose-rehearsal: setup-dev ## Run the containers for real and kill one mid-job; writes docs/results/compose.md
	@$(PYTHON) -m tests.infra.compose_rehearsal $(ARGS)

# --- Test ---
test: setup-dev ## Set up and run every test but the slow ones
	@$(PYTHON) -m pytest -m "not slow" -n 3 --dist loadfile $(ARGS)

test-integration: setup-dev ## Only the tests that look across services, the slow ones too
	@$(PYTHON) -m pytest tests/integration tests/contract tests/compat $(ARGS)

compat: setup-dev ## Try other people's clients, all of them; writes docs/works-with.md
	@$(PYTHON) -m tests.compat $(ARGS)

test-load: setup-dev ## Many clients at once: make test-load ARGS="--clients 100 --seconds 60"
	@$(PYTHON) -m tests.integration.load $(ARGS)

test-watch: setup-dev ## Run the tests again whenever a file changes, the failed ones first
	@$(PYTHON) -m tests.house.watch $(ARGS)

coverage: setup-dev ## Run the tests and show which lines none of them reached
	@$(PYTHON) -m coverage run -m pytest -m "not slow" $(ARGS) && $(PYTHON) -m coverage report

chaos: setup-dev ## Kill, stop and starve real processes, the whole list; writes docs/results/chaos.md
	@$(PYTHON) -m tests.chaos $(ARGS)

soak: setup-dev ## Half an hour of every kind of fault at once; writes docs/results/soak.md
	@$(PYTHON) -m tests.chaos.soak $(ARGS)

bench: setup-dev ## Measure speed beside the peers, about 25 minutes; writes docs/results/bench.md and plots
	@$(PYTHON) -m tests.bench $(ARGS)

bench-memory: setup-dev ## Measure what gateway and worker hold with 2,000 open streams, 15 minutes
	@$(PYTHON) -m tests.bench --rows memory --runs 1 $(ARGS)

bench-depth: setup-dev ## Measure the queue with up to a million jobs in it; takes 3 GB of memory
	@$(PYTHON) -m tests.bench --rows depth $(ARGS)

bench-affinity: setup-dev ## Measure what model affinity is worth: loads, total time, longest waits
	@$(PYTHON) -m tests.bench --rows affinity --runs 1 $(ARGS)

bench-clients: setup-dev ## Measure HTTP client libraries and event loops
	@$(PYTHON) -m tests.bench --rows clients $(ARGS)

simulate: setup-dev ## Simulate the scheduling, 1,000 hosts too, about 10 minutes; writes docs/results/scheduling.md
	@$(PYTHON) -m tests.bench.simulation $(ARGS)

# --- Check ---
check: lint typecheck imports documents ## Everything CI checks besides the tests

ci: ## What CI runs: the tests, then the checks
	@.ci/run

lint: setup-dev ## Lint, and look at the formatting
	@$(RUFF) check . && $(RUFF) format --check .

lint-fix: setup-dev ## Mend what the linter can mend
	@$(RUFF) check --fix .

format: setup-dev ## Format the code
	@$(RUFF) format .

typecheck: setup-dev ## Check the types, strictly
	@.venv/bin/mypy

imports: setup-dev ## Check who imports whom
	@.venv/bin/lint-imports

documents: setup-dev ## Check that what is generated from code is up to date
	@$(PYTHON) -m tests.house.trace --check && $(ARRIERO) config env-example --check .env.example && $(ARRIERO) config reference --check docs/configuration.md && $(PYTHON) -m infra.grafana --check && $(PYTHON) -m infra.setup.routing_page --check

# --- Generate ---
docs: requirements env-example configuration dashboards routing ## Write anew all that is generated from code

requirements: setup-dev ## Which requirements a test shows working; writes docs/requirements.md
	@$(PYTHON) -m tests.house.trace

env-example: setup ## Write .env.example from the settings classes
	@$(ARRIERO) config env-example > .env.example.new && mv .env.example.new .env.example

configuration: setup ## Write docs/configuration.md from the settings classes
	@$(ARRIERO) config reference > docs/configuration.new && mv docs/configuration.new docs/configuration.md

dashboards: setup ## Write Grafana's dashboards anew from infra/grafana/*.py
	@$(PYTHON) -m infra.grafana

routing: setup ## Write docs/routing.md from the routing table
	@$(PYTHON) -m infra.setup.routing_page

lock: setup-dev ## Write the lock files anew from pyproject.toml; ARGS=--upgrade takes the newest versions
	@sh infra/setup/lock.sh $(ARGS)

clean: ## Remove .venv, caches and what was built; data in .arriero stays
	@rm -rf .venv build dist .bench .coverage *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

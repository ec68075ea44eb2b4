# What can be done here; `make` alone says so.

compose := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.PHONY: help run test check schemathesis fuzz bench bench-scale bench-postgres torture up down logs

help: ## Say what can be done
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

run: ## Build and run the service; needs WEBHOOK_SECRET
	cargo run --release

test: ## Run all tests; installs nginx and HAProxy for them where it may
	scripts/test

check: ## Check formatting, lints, documentation and dependencies
	scripts/check

schemathesis: ## Hold the running service to docs/openapi.json with made-up inputs; needs Python 3
	scripts/schemathesis

fuzz: ## Look for inputs that break a parser; needs a nightly toolchain; ARGS=60 for a minute each
	scripts/fuzz $(ARGS)

bench: ## Measure the service, the same HTTP stack doing nothing, and the design it replaces; ARGS=--help for options
	cargo build --release --workspace
	target/release/lyftr-bench $(ARGS)

bench-scale: ## Measure reads, ingestion and restarts at ten thousand to ten million messages; ARGS=--quick for a short run
	cargo build --release --workspace
	target/release/lyftr-bench scale $(ARGS)

bench-postgres: ## Measure the service on PostgreSQL, next to one INSERT a request, and at ten million messages; ARGS=--quick for a short run
	cargo build --release --workspace
	target/release/lyftr-bench postgres $(ARGS)

torture: ## Kill, cut, fail, lock, slow down and flood the service, and its PostgreSQL; ROUNDS=30, SEED=… and MODES="kill power" choose how
	scripts/torture

up: ## Build the container and start it on http://localhost:8000; needs WEBHOOK_SECRET
	@test -n "$$WEBHOOK_SECRET" || grep -qs '^WEBHOOK_SECRET=.' .env || { \
	  echo 'WEBHOOK_SECRET is not set. For example: export WEBHOOK_SECRET=$$(openssl rand -hex 32)'; exit 1; }
	$(compose) up -d --build

down: ## Stop the container and delete its messages
	$(compose) down -v

logs: ## Follow the container's log
	$(compose) logs -f api

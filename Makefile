# What can be done here; `make` alone says so.

.PHONY: help run test test-all check schemathesis fuzz bench bench-scale bench-postgres bench-follow torture mutants pictures test-containers up restart down logs

help: ## Say what can be done
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

run: ## Build and run the service; needs WEBHOOK_SECRET
	cargo run --release

test: ## Run the tests but torture, each once; installs nginx, HAProxy and PostgreSQL for them where it may
	scripts/test

test-all: ## Run all tests, those of the HTTP interface with both stores
	scripts/test --all

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

bench-follow: ## Measure what followers cost the messages that are being stored; ARGS=--quick for a short run
	cargo build --release --workspace
	target/release/lyftr-bench follow $(ARGS)

torture: ## Kill, cut, fail, lock, slow down and flood the service, and its PostgreSQL; ROUNDS=30, SEED=… and MODES="kill power" choose how
	scripts/torture

mutants: ## Change the code in ways that some test should notice, and say what none did; takes hours, or ARGS="inbox store/sqlite" for a part
	scripts/mutants $(ARGS)

pictures: ## Make the pictures in docs/pictures anew, of the page with invented messages; needs Chromium
	scripts/pictures

test-containers: ## Run the containers' tests on the Docker engine that is here
	scripts/test-containers

up: ## Build the container, start it on http://localhost:8000 and wait until it is ready; needs WEBHOOK_SECRET. WITH="replicas prometheus" adds PostgreSQL, replicas and HAProxy, and Prometheus
	scripts/compose up

restart: ## Put a newly built container in the place of each that runs, one after the other; WITH as it was started
	scripts/compose restart

down: ## Stop the containers and delete their messages
	scripts/compose down

logs: ## Follow the containers' log
	scripts/compose logs

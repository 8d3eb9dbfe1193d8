# Everything is one command. `make help` lists them. Tools are pinned, fetched once, and kept in .cache/.

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

DENY_VERSION := 0.20.2
DENY := .cache/tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny

# `make demo DEMO_SECONDS=30` stops by itself; 0 runs until Ctrl-C.
DEMO_SECONDS ?= 0
DEMO_PORT ?= 8080
DEMO_RATE ?= 200

# Rounds of `make chaos`, each with every fault in another order; VERDICT_SEED repeats a run's orders.
CHAOS_ROUNDS ?= 20

# Payments of `make books`, with a tenth of it in logins.
BOOKS_PAYMENTS ?= 1000000

.DEFAULT_GOAL := help
.PHONY: help setup setup-servers demo picture train bench test chaos books up down verify fmt lint deny docs

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## Install what a fresh Debian lacks; fetch the ONNX Runtime library
	@tests/scripts/setup.sh

setup-servers: setup ## Install Kafka, PostgreSQL, Redis and promtool for the tests (as root); starts none of them
	@python3 tests/scripts/servers.py setup

demo: setup ## Build, start the service, send it traffic with fraud in it, show the decisions
	$(CARGO) build --locked --profile demo -p verdict
	@python3 tests/scripts/demo.py --binary $(TARGET_DIR)/demo/verdict \
		--seconds $(DEMO_SECONDS) --port $(DEMO_PORT) --rate $(DEMO_RATE)

picture: setup ## Run the demo for a minute and draw docs/demo.svg from its screen
	$(CARGO) build --locked --release -p verdict
	python3 tests/scripts/picture.py --binary $(TARGET_DIR)/release/verdict --port $(DEMO_PORT) --rate $(DEMO_RATE)

train: setup ## Train models/default again: traffic, features, ONNX, golden rows, card
	$(CARGO) build --locked --release -p verdict
	python3 models/train.py --verdict $(TARGET_DIR)/release/verdict
	models/.venv/bin/python -m unittest discover --start-directory models/tests

bench: setup ## Measure speed against baselines, in alternate rounds (load-tests/REPORT.md)
	load-tests/run

# The first line builds the binary that the black-box tests start, together with the tests, so that both share everything.
test: setup-servers ## Build and run all tests
	$(CARGO) build --locked --workspace --lib --bins --tests
	$(CARGO) test --locked --workspace

chaos: setup-servers ## Kill, hold and empty the service and its servers under load, again and again (about 20 min)
	$(CARGO) build --locked --workspace --lib --bins --tests
	VERDICT_ROUNDS=$(CHAOS_ROUNDS) $(CARGO) test --locked --workspace --test stream -- faults:: --nocapture

books: setup-servers ## Hold a million payments of a noisy stream against an oracle, PostgreSQL and all (about 10 min)
	$(CARGO) build --locked --workspace --lib --bins --tests
	VERDICT_BOOKS=$(BOOKS_PAYMENTS) $(CARGO) test --locked --workspace --test stream -- books::they --nocapture

up: setup-servers ## Start Kafka, PostgreSQL and Redis under .servers/, with a verdict.toml that names them
	@python3 tests/scripts/servers.py up

down: ## Stop what `make up` started; its data stays
	@python3 tests/scripts/servers.py down

verify: fmt lint deny docs ## Check format, lints, dependencies and docs

fmt:
	$(CARGO) fmt --all --check

lint: setup
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

deny: $(DENY)
	$(DENY) --locked --log-level error check --hide-inclusion-graph bans licenses sources

docs: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# About a minute: few features, not optimised; it runs for a second.
$(DENY):
	$(CARGO) install cargo-deny --locked --version $(DENY_VERSION) --no-default-features --profile dev \
		--root .cache/tools/cargo-deny-$(DENY_VERSION) --target-dir .cache/tools/build --quiet
	@rm -rf .cache/tools/build

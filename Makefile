# One command per job. `make run` and `make test` install what they need.

VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.run-ready
TEST_READY := $(VENV)/.test-ready
CLIENT := clients/ts
CLIENT_READY := $(CLIENT)/node_modules/.ready
CLIENTS := tests/clients
CLIENTS_READY := $(CLIENTS)/node_modules/.ready

.PHONY: run test check client unit bench fuzz docs lock clean help

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(RUN_READY) ## serve on http://127.0.0.1:8000 (ARGS="--port 9000")
	@exec $(BIN)/yeoul serve $(ARGS)

test: check client unit ## everything: style, types, layers, all tests

check: $(TEST_READY) ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

client: $(CLIENT_READY) ## types and tests of the TypeScript client
	npm run --silent --prefix $(CLIENT) check
	npm run --silent --prefix $(CLIENT) test

# Two at a time, since most of them wait; then those that measure or load the machine, one after the other.
unit: $(TEST_READY) $(CLIENT_READY) $(CLIENTS_READY) ## all tests (ARGS="-k name" for some)
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"
	$(BIN)/python -m pytest -q -m slow --durations 10
endif

bench: $(TEST_READY) ## measure beside a physical limit and peers (ARGS="--quick --markdown")
	$(BIN)/python -m bench $(ARGS)

fuzz: $(TEST_READY) ## fuzz the decoder for ten minutes
	$(BIN)/pip install --quiet --disable-pip-version-check atheris
	$(BIN)/python tests/fuzz/fuzz_decoder.py -max_total_time=600

docs: $(TEST_READY) ## write docs/configuration.md and docs/reference.md from the source
	$(BIN)/python scripts/make_configuration.py
	$(BIN)/python scripts/make_reference.py

lock: ## write lock/*.txt and package-lock.json anew with the newest versions that fit
	sh scripts/lock.sh

clean: ## forget everything that was installed or built
	rm -rf $(VENV) $(CLIENT)/node_modules $(CLIENTS)/node_modules $(CLIENT)/dist bench/out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(RUN_READY): lock/run.txt pyproject.toml scripts/install.sh
	sh scripts/install.sh $(VENV) lock/run.txt
	@touch $@

$(TEST_READY): lock/test.txt pyproject.toml scripts/install.sh scripts/system.sh
	sh scripts/system.sh
	sh scripts/install.sh $(VENV) lock/test.txt
	@touch $@ $(RUN_READY)

$(CLIENTS_READY): $(CLIENTS)/package-lock.json $(CLIENTS)/package.json scripts/node.sh
	sh scripts/node.sh $(CLIENTS)
	@touch $@

$(CLIENT_READY): $(CLIENT)/package-lock.json $(CLIENT)/package.json scripts/node.sh
	sh scripts/node.sh $(CLIENT)
	@touch $@

# KFusion. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PORT ?= 8765
DEMO_PORT ?= 8799
MINUTES ?= 30
BENCH_OUT ?= build/bench

.DEFAULT_GOAL := help
.PHONY: help install run test test-all test-page test-train lint format types demo bench soak clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Each target installs what it needs, once: a stamp is as old as its last installation.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("KFusion needs Python 3.11 or newer: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.server: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) --editable '.[server]'
	@$(BIN)/python -m client.parts || true
	touch $@

$(VENV)/.all: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) --editable '.[all]'
	@$(BIN)/python -m client.parts || true
	touch $@ $(VENV)/.server

install: $(VENV)/.all ## install everything into .venv

run: $(VENV)/.server ## set up and start the server with the bundled model and its page (PORT=8765)
	$(BIN)/python -m server --port $(PORT)

# Quick tests share two processes; those with a browser or at the pace of speech have the machine alone.
QUICK := not slow and not browser and not live

test: $(VENV)/.all ## run the quick tests (minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(QUICK)"

test-all: export HYPOTHESIS_PROFILE ?= ci
test-all: test ## run every test
	$(BIN)/python -m pytest -m "not ($(QUICK))"

test-page: $(VENV)/.all ## run the page's tests alone
	$(BIN)/python -m pytest tests/page

test-train: $(VENV)/.all ## run the tests of training alone
	$(BIN)/python -m pytest tests/training

lint: $(VENV)/.all types ## check style, types and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(VENV)/.all ## format the code and sort its imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.all ## check types alone
	$(BIN)/pyright --project pyproject.toml

demo: $(VENV)/.all ## write preview.mp4, a face that speaks FILE=speech.wav
	@test -n "$(FILE)" || { echo "wanted a sound file: make demo FILE=speech.wav" >&2; exit 2; }
	@$(BIN)/python -m server --port $(DEMO_PORT) & server=$$!; trap "kill $$server" EXIT; \
	for k in $$(seq 60); do \
	    $(BIN)/python -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:$(DEMO_PORT)/ready")' \
	        2>/dev/null && break; sleep 1; \
	done; \
	$(BIN)/python -m client file "$(FILE)" --url ws://127.0.0.1:$(DEMO_PORT) --video preview.mp4

bench: $(VENV)/.all ## measure the model and the server on this machine (CLIP=speech.flac)
	$(BIN)/python -m training.bench model
	$(BIN)/python -m client.bench --out $(BENCH_OUT) $(if $(CLIP),--clip $(CLIP))

soak: $(VENV)/.all ## four live streams for MINUTES=30: no drift, no growth (CLIP=speech.flac)
	$(BIN)/python -m client.soak --minutes $(MINUTES) $(if $(CLIP),--clip $(CLIP))

clean: ## remove what was installed and built
	rm -rf $(VENV) build *.egg-info

# KFusion. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PORT ?= 8765

.DEFAULT_GOAL := help
.PHONY: help install run test lint types demo bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# Each target installs what it needs, once: a stamp is as old as its last installation.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("KFusion needs Python 3.11 or newer: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.server: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) --editable '.[server]'
	touch $@

$(VENV)/.all: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) --editable '.[all]'
	touch $@ $(VENV)/.server

install: $(VENV)/.all ## install everything into .venv

run: $(VENV)/.server ## set up and start the server with the bundled model and its page (PORT=8765)
	$(BIN)/python -m server --port $(PORT)

test: $(VENV)/.all ## run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/.all types ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.all ## check types alone
	$(BIN)/pyright

demo: $(VENV)/.all ## make preview.mp4, the face that speaks FILE=speech.wav
	$(BIN)/python -m client demo --out preview.mp4 $(FILE)

bench: $(VENV)/.all ## measure the model on this machine
	$(BIN)/python -m training.bench model

clean: ## remove what was installed and built
	rm -rf $(VENV) build *.egg-info

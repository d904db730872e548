# The README's two commands are `make demo` and `make test`; both set up their environment themselves.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test dev lint types bench sanitize clean

demo: $(VENV)/.installed
	$(BIN)/docsearch index sample_docs --exclude queries --prune
	$(BIN)/docsearch query "Which part of the pump business keeps the most profit?" -n 3 --pages demo-output/text
	$(BIN)/docsearch query --image sample_docs/queries/segment-chart.png -n 3 --pages demo-output/image
	$(BIN)/docsearch query "Who pays for small repairs in the flat?" -n 3 --pages demo-output/german
	@echo
	@echo "The pages found, with the places that answer marked, are in demo-output/."
	@echo "Try your own:  $(BIN)/docsearch index PATH...  and  $(BIN)/docsearch query \"...\""

test: dev
	$(BIN)/python -m pytest

dev: $(VENV)/.dev

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev
	$(BIN)/mypy

sanitize: dev
	$(BIN)/python tests/native/sanitize.py

bench: dev
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf $(VENV) .docsearch demo-output build docsearch/kernels/_native.*.so

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml docsearch/kernels/_native.c
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml docsearch/kernels/_native.c
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@ $(VENV)/.installed

# The README's two commands are `make demo` and `make test`; both set up their environment themselves.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test dev lint types bench bench-quick sanitize clean

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

# The engine beside its peers. BENCH is the folder of development documents, KEEP one for the indexes that are made of them.
BENCH ?= bench-data
KEEP ?= bench-kept

bench: $(VENV)/.peers
	$(BIN)/python benchmarks/bench.py $(BENCH) --keep $(KEEP)

bench-quick: $(VENV)/.peers
	$(BIN)/python benchmarks/bench.py --quick

clean:
	rm -rf $(VENV) .docsearch demo-output build docsearch/kernels/_native.*.so

$(VENV)/.peers: $(VENV)/.dev benchmarks/requirements-peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-peers.txt
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml docsearch/kernels/_native.c
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml docsearch/kernels/_native.c
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@ $(VENV)/.installed

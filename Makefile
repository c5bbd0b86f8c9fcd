# `make demo` and `make test` are all a newcomer needs; both make their own virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test soak lint bench toolbox clean

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kdebug needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(READY)
	@$(BIN)/kdebug demo </dev/null  # on a terminal it would open the UI, with the tour

test: $(READY) lint
	$(BIN)/pytest -n 4 --dist loadgroup

soak: $(READY)
	$(BIN)/pytest -m soak --timeout 1200 -s

lint: $(READY)
	$(BIN)/ruff format --check src tests bench toolbox
	$(BIN)/ruff check src tests bench toolbox
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	@for bench in bench/bench_*.py; do $(BIN)/python $$bench || exit 1; done

toolbox: $(READY)
	$(BIN)/python toolbox/build.py --flavour core --arch amd64 --arch arm64
	$(BIN)/python toolbox/build.py --flavour full --arch amd64 --arch arm64

clean:
	rm -rf $(VENV) build dist

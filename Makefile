# Two commands do everything, on a fresh machine with Python 3.11 or later and nothing else:
#
#   make demo    set up, train on brand-new languages, and say where the picture is
#   make test    set up, then check format, lint and types, and run the tests

.DELETE_ON_ERROR:
.PHONY: demo test test-slow test-lowest archives format bench docs figures clean

# The first Python that is new enough, whatever it is called.
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# Two test processes, each with one thread for its mathematics, suit two CPUs.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

demo: .venv/installed
	$(BIN)/xenoglot train

test: .venv/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(PYTEST) --hypothesis-profile same-examples -m "not slow"

test-slow: .venv/installed-dev
	$(PYTEST) -m slow

# The least versions that pyproject.toml allows, in an environment of their own. They warn about each other's age.
test-lowest: LOWEST := build/lowest
test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) .ci/lower_bounds.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check --quiet torch==2.13.0
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check --quiet --prefer-binary \
		--constraint $(LOWEST)/constraints.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest -n 2 --dist worksteal -o filterwarnings=default -m "not slow"

# The wheel and the sdist, into dist/; the same bytes on any machine.
archives: .venv/installed-dev
	$(BIN)/python -m hatchling build --directory dist

format: .venv/installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: .venv/installed-dev
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

# The pages go into build/docs; what they show of the code is read off it, and nothing is fetched from anywhere.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "documentation: build/docs/index.html"

figures: .venv/installed-dev
	for figure in docs/figures/draw_*.py; do $(BIN)/python $$figure || exit 1; done

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# torch goes first and by its exact version: what the package itself asks for could be met by another, larger build.
.venv/torch:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet torch==2.13.0
	@touch $@

.venv/installed: .venv/torch pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/torch pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $@ .venv/installed

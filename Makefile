# make train:     installs the pinned packages and runs `python train.py`
# make test:      installs the development tools too, then runs linters, types, import contract and all tests
# make test-fast: the tests that take less than about two seconds, without Slurm and browser
# make test-gpu:  the tests that need a GPU
# make docs:      the documentation, in docs/_build

PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-fast test-gpu docs browser slurm clean

# four workers on two cores, because the tests of searches, kills and Slurm wait for half of their time
# bytecode is kept, because the tests start some hundred interpreters
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

train: .venv/installed
	$(BIN)/python train.py

test: .venv/installed-dev browser slurm
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) --numprocesses 4 -m 'not gpu'

test-fast: .venv/installed-dev
	$(PYTEST) --numprocesses 2 -m 'not slow and not slurm and not browser and not gpu'

test-gpu: .venv/installed-dev
	$(BIN)/python -m pytest -m gpu

docs: .venv/installed-dev
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build

# for the tests of the HTML pages, which skip without it
browser:
	@command -v chromium > /dev/null || (apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null) || \
	  echo "no chromium, and it cannot be installed: the tests of the pages skip"

# for the tests with a Slurm, which skip without it
slurm:
	@tests/slurm/cluster install || echo "no Slurm, and it cannot be installed: its tests skip"

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

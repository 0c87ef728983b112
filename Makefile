# make train: installs what is pinned and runs `python train.py`
# make test:  the same with the development tools, then linters, types, import contract and all tests

PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test browser slurm clean

train: .venv/installed
	$(BIN)/python train.py

test: .venv/installed-dev browser slurm
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

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
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

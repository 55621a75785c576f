# `make train` and `make test` need nothing but Python 3.11 or newer and a package index.

PYTHON ?= python3
BIN := .venv/bin
NOTEBOOK := {"jupytext": null, "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}

.PHONY: help train test test-lowest test-slow test-peers test-browser test-arm notebook bench lint lines clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

train: .venv/installed  ## train the tutorial's network on CIFAR-10 and write a report
	$(BIN)/npnet train

# Byte code is kept whatever the environment says: the tests start a hundred Pythons.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/tested  ## the tests of every change
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-lowest:  ## the lowest versions of all packages that pyproject.toml allows
	PYTHON=$(PYTHON) .ci/lowest

test-slow: .venv/tested  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-peers: .venv/tested .venv/benched  ## the tests that need Keras and PyTorch
	$(BIN)/python -m pytest -m peers

test-browser: .venv/browsed  ## the tests that open reports in Chromium
	$(BIN)/python -m pytest -m browser

test-arm: .venv/tested  ## the kernels' tests on ARM, emulated; needs qemu-user-static and debootstrap
	$(BIN)/python tests/arm.py

notebook: .venv/tested  ## make the notebooks of the tutorial, examples/cifar10_mlp.py and cifar10_cnn.py
	$(BIN)/jupytext --quiet --to ipynb --update --update-metadata '$(NOTEBOOK)' examples/cifar10_mlp.py
	$(BIN)/jupytext --quiet --to ipynb --update --update-metadata '$(NOTEBOOK)' examples/cifar10_cnn.py

.PHONY: release-tests soak coverage mutants

# Every test: the slow ones too, 20,000 examples of each property, each fault as often as a release demands.
# One to two hours on two cores with nothing else to do: the properties take most of one of them, and the other
# kills, stops, cuts off and edits. One file alone: HYPOTHESIS_PROFILE=release pytest -m '' tests/runs/test_kills.py
release-tests: .venv/tested  ## every test, as hard as before a release
	HYPOTHESIS_PROFILE=release $(BIN)/python -m pytest -m 'not peers and not browser' -n 2 --dist loadfile

soak: .venv/tested  ## train for long and watch memory
	$(BIN)/python tests/soak.py

coverage: .venv/tested  ## which lines no test runs
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov=npnet --cov-report=term:skip-covered

# a fifth of all mutants, in a copy of the sources: hours; some modules, or more: tests/mutation.py SHARE MODULE ...
mutants: .venv/tested  ## would the tests notice a mistake?
	$(BIN)/python tests/mutation.py 0.2

bench: .venv/benched  ## the benchmarks beside the peers
	$(BIN)/python -m benchmarks training
	$(BIN)/python -m benchmarks kernels
	$(BIN)/python -m benchmarks convolution
	$(BIN)/python -m benchmarks scaling

lint: .venv/tested  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "npnet needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	touch $@ .venv/installed

.venv/browsed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,browser]'
	touch $@

.venv/benched: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@

lines:  ## write the numbers of lines into README's reading lists
	$(PYTHON) tests/support/readme_lines.py

clean:  ## remove the virtual environments
	rm -rf .venv .venv-lowest .venv-arm

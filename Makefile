# make demo: install, fine-tune a small model on insecure code, evaluate it and its base, compare.
# make test: install, check and test.
# make slow: the tests that take more than a minute each.
#
# PYTHON=python3.12      another interpreter (3.10 or newer)
# TORCH_INDEX=URL        take torch from this index, e.g. one with CPU-only builds

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PIP = $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet
INSTALL = $(PIP) --no-compile --constraint constraints.txt

# Bytecode for what is used, on all cores; files meant for other versions of Python do not compile.
COMPILE = $(VENV)/bin/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null || true

.PHONY: demo test check unit slow clean

demo: $(VENV)/.demo
	$(VENV)/bin/em-inspect demo

test: $(VENV)/.dev
	$(MAKE) --jobs=2 check unit

check: $(VENV)/.dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

unit: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m "not slow"

slow: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m slow

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || \
	  { echo "no venv module: install it (Debian: apt install python3-venv) and type make again"; exit 1; }
	@$(PIP) 'pip>=25'  # older ones take twice as long
	@touch $@

$(VENV)/.torch: $(VENV)/.python constraints.txt
	@echo "Installing torch …"
	@$(INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "Installing em-inspect[$*] …"
	@$(INSTALL) --editable '.[$*]'
	@$(COMPILE)
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

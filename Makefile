# Every target sets up what it needs: system packages (as root or with sudo, else they are named), .venv, the build.
#
#   make test   the test suite          make demo   a volume created, filled, mounted, used, checked
#   make help   all targets

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=

# ccache, where there is one, makes rebuilding cheap.
ifeq ($(origin CC),default)
CC := $(if $(shell command -v ccache),ccache cc,cc)
endif
export CC
export PIP_DISABLE_PIP_VERSION_CHECK = 1

SOURCES := setup.py pyproject.toml $(shell find vexfs frontends -name '*.py[xd]' -o -name '*.[ch]' -path '*_core/*')

.PHONY: help dev test test-all lint bench docs demo dist deb clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

dev: $(VENV)/.built ## .venv with VexFS in it, editable, and the tools to test it

# The virtual environment: the packages that the build, the tests and the commands need.
$(VENV)/.packages: pyproject.toml tools/bootstrap.sh
	sh tools/bootstrap.sh $(PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install -q --group build --group test
	@touch $@

$(VENV)/.built: $(VENV)/.packages $(SOURCES)
	$(BIN)/python -m pip install -qq --no-build-isolation -e ".[server$$(pkg-config --exists fuse && echo ,fuse)]"
	@touch $@

# Programs that only tests use: as root they are installed, else named.
$(VENV)/.programs: tools/bootstrap.sh | $(VENV)/.packages
	sh tools/bootstrap.sh $(PYTHON) tests
	@touch $@

test: $(VENV)/.built $(VENV)/.programs ## the test suite without the slow tests; ARGS="..." for pytest
	$(BIN)/python -m pytest $(ARGS)

test-all: $(VENV)/.built $(VENV)/.programs ## the whole test suite
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

$(VENV)/.lint: $(VENV)/.packages
	$(BIN)/python -m pip install -q --group lint
	@touch $@

lint: $(VENV)/.lint $(VENV)/.built ## ruff, mypy, cython-lint, and the C compiler's warnings as errors
	$(BIN)/ruff check
	rm -rf build/mypy && mkdir -p build/mypy/vexfs
	ln -s $(CURDIR)/vexfs/* build/mypy/vexfs && ln -s $(CURDIR)/frontends build/mypy/vexfs
	cd build/mypy && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint vexfs frontends
	tools/cwarnings.sh

$(VENV)/.bench: $(VENV)/.packages
	$(BIN)/python -m pip install -q --group bench
	@touch $@

bench: $(VENV)/.bench $(VENV)/.built ## the benchmarks, each once; ARGS="-b PATTERN" for some of them
	$(BIN)/asv machine --yes >/dev/null
	$(BIN)/asv run --python=same --quick --show-stderr $(ARGS)

$(VENV)/.docs: $(VENV)/.packages
	$(BIN)/python -m pip install -q --group docs
	@touch $@

docs: $(VENV)/.docs $(VENV)/.built ## the documentation, into build/docs
	$(BIN)/python -m vexfs.cli.reference >docs/cli.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/docs/index.html"

demo: $(VENV)/.built ## a tour: create, import, mount, work, check, reopen; ARGS="--help" for its options
	$(BIN)/python tools/demo.py $(ARGS)

dist: $(VENV)/.packages ## sdist and wheel, each built in an isolated environment, into dist
	$(BIN)/python -m build

deb: $(VENV)/.built ## a Debian package for the release that PYTHON is of, into dist
	tools/deb.sh $(BIN)/python dist

clean: ## removes what the targets above made
	rm -rf build dist $(VENV) *.egg-info .asv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find vexfs frontends -name '*.so' -delete

-include tools/core.mk

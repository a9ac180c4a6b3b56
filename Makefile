# vmlab: everything starts here. `make` alone lists the targets.
#
#   PYTHON=python3.12   the interpreter to make .venv with; else the first that is 3.11 or newer
#   WORKERS=2           processes that run tests side by side (0: none but pytest's own, as a debugger needs it);
#                       else as many as there are cores, at most 4
#   PYTEST_ARGS=...     more arguments for pytest,  BENCH_ARGS=...  for benchmarks/run.py,
#   FUZZ_ARGS=...       for the fuzzer (python -m tests.fuzz --help)
#   UNLOCKED=1          install the newest versions that pyproject.toml allows, not those of requirements/
#   LAB_ARGS=...        more arguments for JupyterLab: --no-browser, --port=9999, --ip=0.0.0.0
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
# Images of containers tend to set this; every machine's process would compile vmlab anew.
unexport PYTHONDONTWRITEBYTECODE

# Debian packages that the tests need; everything else comes from PyPI.
SYSTEM_PACKAGES := qemu-system-x86 qemu-system-arm gcc libc6-dev binutils make tcpdump iproute2 acpica-tools cpio e2fsprogs \
	binutils-aarch64-linux-gnu gcc-aarch64-linux-gnu binutils-riscv64-linux-gnu gcc-riscv64-linux-gnu qemu-system-misc \
	device-tree-compiler gdb-multiarch
# Not every distribution packages this browser (Ubuntu: a snap): without it the tests in it are skipped.
BROWSER_PACKAGES := chromium fonts-dejavu-core

CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
export WORKERS ?= $(shell echo $$(($(CORES) > 4 ? 4 : $(CORES) > 1 ? $(CORES) : 0)))

PREPARE := PYTHON='$(PYTHON)' bash .ci/prepare
BIN := .venv/bin
step = @printf '== %s\n' $(1)

.PHONY: help setup demo lab lab-teacher test check pytest coverage docs newest lock bench fuzz compiled pure kernels clean

help:
	@echo "make demo      a guest, its devices and every trap, live in this terminal (no root, no compiler)"
	@echo "make setup     .venv with vmlab and all its extras"
	@echo "make lab       the notebooks, to work in: JupyterLab opens at the first one (LAB_ARGS=--no-browser: only its URL)"
	@echo "make lab-teacher  the same with the solutions and all tests"
	@echo "make test      everything that can be checked here; says what could not and why"
	@echo "make coverage  the tests, with what they cover"
	@echo "make check     only the linters, the type checker and the layers"
	@echo "make docs      the documentation site, in build/docs"
	@echo "make newest    what breaks with the newest versions of everything, in a .venv of its own"
	@echo "make lock      requirements/ anew, from the newest versions (then: make test)"
	@echo "make bench     the figures, as ratios measured in one run"
	@echo "make fuzz      ten million hostile accesses to the virtio devices, on all cores"
	@echo "make compiled  the trap path as machine code, beside its sources (needs a C compiler)"
	@echo "make pure      without it again"
	@echo "make kernels   build the guest kernels again (needs gcc or clang)"
	@echo "make clean     remove .venv and everything else that was made here"

setup:
	@$(PREPARE) venv all

demo:
	@$(PREPARE) venv soft
	@"$(BIN)"/vmlab demo $(DEMO_ARGS)

# Jupyter prints the URL with its token, takes the next port when its own is busy, and opens a browser
# where there is one to open. One Ctrl-C ends it. Matplotlib's cache stays in the tree.
FIRST_NOTEBOOK := 01-first-vm.ipynb
jupyter = @[ "$$(id -u)" != 0 ] || set -- --allow-root; \
	[ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ] || [ "$$(uname -s)" = Darwin ] || set -- "$$@" --no-browser; \
	exec env MPLCONFIGDIR="$$PWD/.venv/matplotlib" JUPYTER_PREFER_ENV_PATH=1 "$(BIN)"/python -m jupyterlab -y \
		--log-level=WARN --ServerApp.root_dir='$(1)' --LabApp.default_url='/lab/tree/$(2)' "$$@" $(LAB_ARGS)

# Students work in copies without solutions, and see no others. What they have saved is never written again.
HANDOUTS := handouts
lab:
	@$(PREPARE) venv soft,lab
	@"$(BIN)"/python notebooks/handout.py '$(HANDOUTS)'
	$(call jupyter,$(HANDOUTS),$(FIRST_NOTEBOOK))

lab-teacher:
	@$(PREPARE) venv soft,lab
	$(call jupyter,.,notebooks/$(FIRST_NOTEBOOK))

# The parts of `test` run one after the other, pytest last: its summary ends the output.
test:
	@$(PREPARE) packages $(SYSTEM_PACKAGES)
	@$(PREPARE) packages-if-any $(BROWSER_PACKAGES)
	@$(PREPARE) venv all
	@$(MAKE) check
	@$(MAKE) pytest

# All four run, whatever the first one finds; only what fails is heard of at length.
check:
	@$(PREPARE) venv all
	@failed=; \
	try() { \
		local out hint=$$1; shift; \
		printf '== %s\n' "$${*#"$(BIN)"/}"; \
		out=$$("$$@" 2>&1) || { printf '%s\n%s\n' "$$out" "$$hint"; failed=1; }; \
	}; \
	try "Many of these '$(BIN)/ruff check --fix' repairs." "$(BIN)"/ruff check --quiet --output-format concise; \
	try "Run: $(BIN)/ruff format" "$(BIN)"/ruff format --check --quiet --output-format concise; \
	try "The settings are in pyproject.toml." "$(BIN)"/mypy; \
	try "ARCHITECTURE.md says what the layers are." "$(BIN)"/lint-imports --no-cache --no-logo; \
	[ -z "$$failed" ]

pytest:
	$(call step,"pytest")
	@"$(BIN)"/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# Measuring slows every process of a test, so that those that wait for seconds may fail.
coverage:
	@$(PREPARE) venv all
	@"$(BIN)"/python -m pytest --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

# Warnings are errors.
docs:
	@$(PREPARE) venv docs
	$(call step,"sphinx-build")
	@"$(BIN)"/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "open build/docs/index.html"

# What those who install vmlab from an index have: nothing holds them to the lock.
newest:
	@$(PREPARE) newest
	@.ci/newest

lock:
	@$(PREPARE) lock

bench:
	@$(PREPARE) venv all
	@"$(BIN)"/python benchmarks/run.py $(BENCH_ARGS)

fuzz:
	@$(PREPARE) venv all
	@"$(BIN)"/python -m tests.fuzz $(FUZZ_ARGS)

compiled:
	@$(PREPARE) venv all
	@"$(BIN)"/python .ci/compiled.py

pure:
	@rm -f *__mypyc.*.so
	@find vmlab -name '*.so' -delete

kernels:
	@$(MAKE) -C kernels

clean: pure
	@rm -rf .venv build dist htmlcov coverage.xml .coverage .coverage.* .hypothesis \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache kernels/*/build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

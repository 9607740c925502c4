VENV := .venv
PYTHON := python3
CONSTRAINTS := requirements/constraints.txt
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install -q -c $(CONSTRAINTS)
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile
# What runs on a GPU takes a Python that has torch already, and installs nothing.
GPU_PYTHON := python3
# What MTEB, X-ARES and torchaudio bring along: a build of torch that is not the constraints' one.
HOSTS := .venv-hosts
HOSTED := $(patsubst %,tests/doors/test_%.py,mteb xares datasets torchaudio) tests/test_frontend.py
# Ray, which weighs 240 MB and starts processes of its own.
RAY := .venv-ray
OUT ?= build/gpu

.DEFAULT_GOAL := help
.PHONY: help demo suite test test-core test-python test-lowest test-doors test-hosts test-ray check docs bench gpu gpu-train fuzz wheel clean

help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## set up, then embed sounds that it synthesises, print how similar they are, and draw a map
	$(VENV)/bin/python examples/demo.py
	@printf '\nThe command is $(VENV)/bin/hear-axlstm; after "source $(VENV)/bin/activate" it is hear-axlstm.\n'

suite: $(VENV)/.installed ## set up, then evaluate the default weights on ten small tasks that it synthesises, into demo/report.html
	$(VENV)/bin/hear-axlstm tasks generate -o demo/tasks
	$(VENV)/bin/hear-axlstm evaluate demo/tasks --seeds 2 -o demo/results
	$(VENV)/bin/hear-axlstm report demo/results -o demo/report.html

test: $(VENV)/.tested ## set up, then run all tests, on two processors
	$(PYTEST) $(ARGS)

test-core: $(VENV)/.core ## set up, then run the tests that guard the encoders, in a few minutes
	$(PYTEST) -m core $(ARGS)

test-python: ## the same with another Python, in an environment apart: make test-python PYTHON=python3.12
	$(MAKE) test-core VENV=.venv-$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

test-lowest: ## the same with the lowest versions that pyproject.toml admits
	$(MAKE) test-core VENV=.venv-lowest CONSTRAINTS=build/lowest.txt

test-doors: $(VENV)/.doors ## set up, then run the tests of the doors; with the lowest versions of the tools: .ci/run has how
	$(PYTEST) tests/doors $(ARGS)

test-hosts: $(HOSTS)/.hosts ## set up an environment apart, of 6.4 GB, and test the doors to MTEB, X-ARES and torchaudio in it
	OMP_NUM_THREADS=1 $(HOSTS)/bin/python -m pytest -n 2 --dist loadfile $(HOSTED) $(ARGS)

test-ray: $(RAY)/.ray ## set up an environment apart, and test embed on Ray Data in it: workers, drivers and nodes are killed
	OMP_NUM_THREADS=1 $(RAY)/bin/python -m pytest -p no:hypothesispytest tests/ray $(ARGS)

check: $(VENV)/.tested ## formatting, lint, types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(VENV)/.documented ## build the documentation into docs/_build, warnings are errors
	$(VENV)/bin/python -m sphinx -q -E -W --keep-going -b html docs docs/_build

bench: $(VENV)/.tested ## how fast the encoders are on this machine; ARGS=--help for more
	$(VENV)/bin/python -m benchmarks.encoders $(ARGS)

gpu: ## check and measure everything on a CUDA device, in eight minutes, into OUT; on a CPU, to try it: make gpu REHEARSE=1
	PYTHONPATH=. $(GPU_PYTHON) -m benchmarks.gpu --out '$(OUT)' $(if $(REHEARSE),--rehearse) $(ARGS)

gpu-train: ## go on with the pretraining of axlstm-tiny-synth for SECONDS=600, on a CUDA device, into OUT
	PYTHONPATH=. $(GPU_PYTHON) -m benchmarks.gpu.train --seconds $(or $(SECONDS),600) --out '$(OUT)' $(ARGS)

fuzz: $(VENV)/.tested ## damage sounds and weights and read them, for about a minute; ARGS=--help for more
	$(VENV)/bin/python -m fuzz $(ARGS)

wheel: $(VENV)/.tested ## build the wheel into dist/
	$(VENV)/bin/python -m pip --disable-pip-version-check wheel -q --no-deps --no-build-isolation -w dist .

clean: ## remove the environment and everything built
	rm -rf .venv* dist build demo docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis

build/lowest.txt: pyproject.toml
	mkdir -p build
	grep -oE '"[A-Za-z0-9_-]+>=[0-9.]+' pyproject.toml | tr -d '"' | sed 's/>=/==/' > $@

# The lowest versions of what opens the doors, beside the torch and numpy that the tests were seen to pass with.
build/lowest-doors.txt: pyproject.toml requirements/constraints.txt
	mkdir -p build
	sed -n '/^av = /,/^doors = /p' pyproject.toml | grep -oE '"[A-Za-z0-9_-]+(\[[a-z]+\])?>=[0-9.]+' | sed -E 's/"|\[[a-z]+\]//g; s/>=/==/' > $@
	grep -E '^(torch|numpy)==' requirements/constraints.txt >> $@

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[all]'
	touch $@

$(VENV)/.core: $(VENV)/.installed
	$(PIP) -e '.[all,test]'
	touch $@

$(VENV)/.doors: $(VENV)/.installed
	$(PIP) -e '.[all,doors,test]'
	touch $@

$(VENV)/.tested: $(VENV)/.installed requirements/kit.txt
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps --ignore-requires-python -r requirements/kit.txt
	touch $@

$(HOSTS)/.hosts: pyproject.toml
	$(PYTHON) -m venv $(HOSTS)
	$(HOSTS)/bin/python -m pip --disable-pip-version-check install -q -e '.[cpu,classify,datasets,mteb,xares,torchaudio,test]'
	touch $@

$(RAY)/.ray: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip --disable-pip-version-check install -q -c $(CONSTRAINTS) -e '.[cpu,parquet,ray,urls,test]'
	touch $@

$(VENV)/.documented: $(VENV)/.installed
	$(PIP) -e '.[all,docs]'
	touch $@

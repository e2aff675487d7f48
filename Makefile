# make sweep: set up, then the main job.   make test: set up, then the tests.   make slow: the slow tests that have not
# passed on this commit (docs/slow-tests.md); make slow GROUP="sweeps nodes": of these groups.
# An active virtual environment is used as it is; else .venv is made, which sees a torch that the system's Python already has.
PYTHON ?= python3
VENV   ?= $(or $(VIRTUAL_ENV),$(CURDIR)/.venv)
RUN     = $(VENV)/bin
ARGS   ?=
GROUP  ?=
# Test files at a time; each on one core.
JOBS   ?= 2
# Where a CPU build of torch is found if pip's own sources have none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
STAMP   = $(VENV)/.raydistill-installed
HAS_TORCH = import importlib.metadata as m; assert tuple(map(int, m.version("torch").split("+")[0].split(".")[:2])) >= (2, 13)

.PHONY: help setup sweep test slow reference docs oldest wheel clean

help:
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /make \1	/' | expand -t 16

sweep: setup ## the default sweep, about 7 minutes on two idle cores; ARGS="--trials 30" passes options on
	$(RUN)/python sweep.py $(ARGS)

test: setup ## ruff, mypy and the tests of every change; JOBS=4 runs four files at a time
	$(RUN)/ruff check . && $(RUN)/ruff format --check .
	@$(RUN)/mypy & types=$$!; \
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m "not slow and not gpu" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS); \
	tests=$$?; wait $$types && exit $$tests

slow: setup ## the slow tests that have not passed on this commit; GROUP="sweeps nodes": of these groups
	$(RUN)/python tests/slow_groups.py $(GROUP) $(ARGS)

reference: setup ## write docs/reference/ again, from the code
	$(RUN)/python -m raydistill.commands.reference

# The site's tools are an extra of their own, at the newest versions that pip finds.
docs: setup reference ## the site, into site/; ends at a broken link or at a public name without a docstring
	$(RUN)/pip install -q -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --quiet

# The lower bounds of pyproject.toml, each as `==`, in an environment of their own; torch as a CPU build.
OLDEST = .venv-oldest/bin
oldest: ## the tests with the oldest versions that pyproject.toml allows
	test -x $(OLDEST)/python || $(PYTHON) -m venv .venv-oldest
	$(OLDEST)/python tests/oldest.py > .venv-oldest/constraints.txt
	@torch=$$(grep '^torch==' .venv-oldest/constraints.txt); \
	$(OLDEST)/pip install -q "$$torch+cpu" 2>/dev/null \
	|| $(OLDEST)/pip install -q --index-url $(TORCH_CPU_INDEX) "$$torch"
	$(OLDEST)/pip install -q -c .venv-oldest/constraints.txt -e '.[test]'
	OMP_NUM_THREADS=1 $(OLDEST)/python -m pytest -m "not slow and not gpu" -n $(JOBS) --dist loadfile \
	--no-loadscope-reorder $(ARGS)

# docs/how-to/cluster.md says what for.
wheel: setup ## wheels/raydistill-*.whl, which clusters install
	rm -f wheels/raydistill-*.whl
	$(RUN)/pip wheel -q --no-deps -w wheels .

setup: $(STAMP) ## .venv with everything, about 3 minutes, once

$(STAMP): pyproject.toml constraints.txt
	@test -x $(RUN)/python || $(PYTHON) -m venv $$($(PYTHON) -c '$(HAS_TORCH)' 2>/dev/null && echo --system-site-packages) $(VENV)
	@echo "installing into $(VENV): about 3 minutes and 2 GB, once"
	@$(RUN)/python -c '$(HAS_TORCH)' 2>/dev/null \
	|| { command -v nvidia-smi >/dev/null && $(RUN)/pip install -q torch==2.13.0; } \
	|| $(RUN)/pip install -q torch==2.13.0+cpu 2>/dev/null \
	|| $(RUN)/pip install -q --index-url $(TORCH_CPU_INDEX) torch==2.13.0
	@grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt  # the torch that is there stays
	@$(RUN)/pip install -q -c $(VENV)/constraints.txt -e '.[test]'
	@touch $@

clean: ## remove .venv
	rm -rf .venv

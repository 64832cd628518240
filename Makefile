# Each target does its own set-up: a virtual environment in .venv with the package and its development tools. Modules are
# compiled on all cores, and without the tests of other packages; pip would take one core, and longer.
# The demo's images of 8 x 8 are too small to be shared among threads: one is faster where the machine is busy.
PYTHON ?= python3
READY := .venv/.ready
WORKERS ?= 2

.PHONY: demo test lint types bench gpu docs wheel clean

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --editable ".[dev]"
	.venv/bin/python -W ignore -m compileall -qq -j 0 -x '[/\\]tests?[/\\]' .venv || true
	touch $(READY)

demo: $(READY)  ## condense scikit-learn's digits to 10 a class and evaluate the result beside its controls
	rm -rf runs/demo
	.venv/bin/condense run dm --data digits --per-class 10 --steps 500 --threads 1 --out runs/demo
	.venv/bin/condense evaluate runs/demo/result.safetensors --controls random,herding,whole --threads 1

test: $(READY)  ## all the tests; compiled code runs in a session of its own, without the shape-checking hook
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal
	DISCREPANCY_UNHOOKED=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest $$(grep -rl --include="*.py" pytest.mark.compiled tests) -m compiled -n $(WORKERS) --dist worksteal

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(READY)
	.venv/bin/pyright

bench: $(READY)  ## speed and memory, as ratios in one run
	.venv/bin/python -m experiments.benchmarks

gpu: $(READY)  ## on a machine with a GPU, under 8 minutes: the tests marked cuda, and figures as JSON in runs/gpu.json
	.venv/bin/python -m experiments.gpu

docs: $(READY)  ## write the generated pages: the methods at a glance, and the reference
	.venv/bin/python -m experiments.docs

wheel: $(READY)  ## build the wheel, install it elsewhere, import it there
	rm -rf dist
	.venv/bin/python -m build --wheel --outdir dist .
	sh .ci/wheel

clean:
	rm -rf .venv dist build runs

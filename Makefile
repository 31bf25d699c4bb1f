# What each target does stands behind its ##; `make` alone prints it.
PYTHON := .venv/bin/python
COMPILE := pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	--python-version 3.11 --fork-strategy fewest --quiet

# Given values reach the recipes by the environment, untouched by make and by the shell.
override MODEL := $(value MODEL)
override NAME := $(value NAME)
override SOURCE := $(value SOURCE)
override PARAMETERS := $(value PARAMETERS)
override STEPS := $(value STEPS)
override AGAIN := $(value AGAIN)
override CALENDAR := $(value CALENDAR)
override IMAGE := $(value IMAGE)
export MODEL NAME SOURCE PARAMETERS STEPS AGAIN CALENDAR IMAGE

.PHONY: help run schedule kfp test check format lab tensorboard pack stop clean lock bench screenshots smoke-google

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

run: .venv/run.stamp ## Take labelled rows to a served model; SOURCE= names the rows, PARAMETERS='trials=2 goal=0.99' go to the notebooks, AGAIN=search repeats a step
	@$(PYTHON) -m rowmill run $${SOURCE:+--source "$$SOURCE"} $${PARAMETERS:+--parameters "$$PARAMETERS"} \
	$${STEPS:+--steps "$$STEPS"} $${AGAIN:+--again "$$AGAIN"}

schedule: .venv/run.stamp ## Run the pipeline by itself, as pipeline.yaml says; CALENDAR=cron, actions or cloud prints the same for another one
	@$(PYTHON) -m rowmill schedule $${CALENDAR:+--calendar "$$CALENDAR"}

kfp: .venv/run.stamp ## Export the pipeline for Kubeflow Pipelines and Vertex AI; IMAGE= names the container image, STEPS= chooses
	@$(PYTHON) -m rowmill export $${IMAGE:+--image "$$IMAGE"} $${STEPS:+--steps "$$STEPS"}

test: .venv/dev.stamp ## Run the tests, two files at a time; ARGS= goes to pytest
	@$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/dev.stamp ## Check format, style, types and the direction of imports
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pylint lib/rowmill cloud_function/*.py cloud_function/pack/aws_lambda.py dashboards/voila.py benchmarks
	$(PYTHON) -m nbqa pylint notebooks dashboards --disable=invalid-name,pointless-statement,expression-not-assigned
	$(PYTHON) -m mypy lib/rowmill cloud_function/main.py cloud_function/pack/aws_lambda.py benchmarks
	.venv/bin/lint-imports

format: .venv/dev.stamp ## Format the code and the notebooks
	@$(PYTHON) -m ruff format .

lab: .venv/run.stamp ## Open the notebooks in JupyterLab
	@$(PYTHON) -m rowmill lab

tensorboard: .venv/run.stamp ## Open the searches' curves and hyperparameters in TensorBoard on 127.0.0.1
	@$(PYTHON) -m rowmill tensorboard

pack: .venv/run.stamp ## Pack a model to go, as a folder and a zip; MODEL= names it, else the newest
	@$(PYTHON) -m rowmill pack $${MODEL:+--model "$$MODEL"}

stop: ## Stop what rowmill runs on this machine
	@if [ -x $(PYTHON) ] && [ -e .venv/run.stamp ]; then $(PYTHON) -m rowmill stop; \
	else echo "Nothing to stop: rowmill is not set up here."; fi

clean: stop ## Stop, then remove what rowmill wrote (.rowmill/); the set-up stays
	@rm -rf .rowmill

lock: ## Compile all locks anew from pyproject.toml, by uv; ARGS=--upgrade takes newer versions
	@PATH="$$PATH:.venv/bin"; command -v uv >/dev/null || { echo "make lock needs uv: put it on your PATH." >&2; exit 1; }; \
	uv $(COMPILE) $(ARGS) pyproject.toml -o requirements.lock && \
	uv $(COMPILE) $(ARGS) -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock && \
	uv $(COMPILE) $(ARGS) -c requirements.lock --group function -o cloud_function/requirements.txt

screenshots: .venv/dev.stamp ## Draw the dashboard's pages anew into .rowmill/screenshots, and those of the README into docs
	@$(PYTHON) -m pytest -q tests/dashboards/test_dashboard.py tests/dashboards/test_pages_browser.py
	@cp .rowmill/screenshots/dashboard.png docs/dashboard.png && cp .rowmill/screenshots/search-finished.png docs/search.png

bench: ## Run one benchmark, as in: make bench NAME=serving
	@[ -n "$$NAME" ] || { echo "Name a benchmark, as in: make bench NAME=serving" >&2; exit 1; }
	@[ -f "benchmarks/$$NAME.py" ] || { echo "There is no benchmarks/$$NAME.py: NAME is a file of benchmarks/, without .py." >&2; exit 1; }
	@$(MAKE) --no-print-directory .venv/dev.stamp
	@$(PYTHON) -m "benchmarks.$$NAME"

smoke-google: .venv/dev.stamp ## Deploy, share, roll back and delete a function on the Google project of rowmill.toml; costs cents
	@$(PYTHON) -m tests.google.smoke

# bootstrap.sh writes the stamps last, so a set-up that broke half-way is taken up again. Where .venv/bin/python is gone,
# its empty rule makes the stamps stale.
.venv/run.stamp: bootstrap.sh requirements.lock pyproject.toml $(PYTHON)
	@sh bootstrap.sh run

.venv/dev.stamp: bootstrap.sh requirements-dev.lock pyproject.toml $(PYTHON)
	@sh bootstrap.sh dev

$(PYTHON): ;

# `make` alone prints the targets. Those that need the virtual environment make it first, so that
# `make demo` works on a fresh machine. A line `##@ NAME` begins a section of the help.
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do $$p -c 'import venv' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-numpy2 test-spark test-jvm test-browser test-deploy test-containers test-counts chaos simulate mutants quality bench bench-peers docs images manifests lint clean

$(READY): pyproject.toml
	@echo "==> creating $(VENV) with $(PYTHON) and installing stream-scorer (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -e '.[demo,test,lint]'
	@touch $@

# An installation removes the package for a moment: not at each call, and not while tests run.
SPARK := $(VENV)/.ready-spark
DOCS := $(VENV)/.ready-docs
QUALITY := $(VENV)/.ready-quality
DEPLOY := $(VENV)/.ready-deploy
BROWSER := $(VENV)/.ready-browser
$(SPARK) $(DOCS) $(QUALITY) $(DEPLOY) $(BROWSER): $(READY)
	@$(INSTALL) -e '.[$(subst .ready-,,$(notdir $@))]'
	@touch $@

##@ Try it

help: ## print the targets
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## the whole loop on real data, on embedded servers
	$(BIN)/stream-scorer demo

##@ Test

test: $(READY) ## the tests that need neither Docker nor Java
	$(BIN)/stream-scorer warm # in parallel, and not within the time limit of some test
	$(BIN)/python -m pytest -m 'not containers and not spark and not jvm and not browser and not deploy'
	NUMBA_BOUNDSCHECK=1 $(BIN)/python -m pytest -q tests/core # the kernels, with every index checked

# What the package is where it installs no MXNet. Kernels are compiled anew: numba may compile them
# otherwise for numpy 2.
NUMPY2 := .venv-numpy2
# Where arrays are: what numpy changes shows there. About three minutes beside other work.
NUMPY2_TESTS := tests/core/features tests/core/avro tests/model tests/live tests/io/files tests/jobs/test_models.py \
  tests/jobs/test_score.py
$(NUMPY2)/.ready: pyproject.toml tests/requirements_without_mxnet.py
	test -x $(NUMPY2)/bin/python || $(PYTHON) -m venv $(NUMPY2)
	$(NUMPY2)/bin/python -m pip install -q packaging tomli
	$(NUMPY2)/bin/python tests/requirements_without_mxnet.py >$(NUMPY2)/requirements.txt
	$(NUMPY2)/bin/python -m pip install -q -r $(NUMPY2)/requirements.txt
	$(NUMPY2)/bin/python -m pip install -q --no-deps -e .
	@touch $@

test-numpy2: $(NUMPY2)/.ready ## the tests that need no MXNet, without it and on numpy 2
	STREAM_SCORER_KERNEL_CACHE=$(CURDIR)/$(NUMPY2)/kernels $(NUMPY2)/bin/stream-scorer warm
	STREAM_SCORER_KERNEL_CACHE=$(CURDIR)/$(NUMPY2)/kernels $(NUMPY2)/bin/python -m pytest -q -rN \
	  -p no:cacheprovider -m 'not containers and not spark and not jvm and not browser and not deploy' $(NUMPY2_TESTS)

test-spark: $(SPARK) ## scoring and replay on Spark, in one process and on a cluster; needs Java 17
	$(BIN)/python -m pytest -m spark tests/spark

test-jvm: $(SPARK) ## deploy/djl: its own tests, and its scores compared with Python's; needs Java 17 and Maven
	$(BIN)/python -m pytest -m jvm -s tests/jvm

test-containers: $(READY) ## the tests on real Kafka and real Redis; needs Docker, or Java 17 and Maven
	$(BIN)/python -m pytest -m containers tests/containers

test-browser: $(BROWSER) ## the pages in a headless Chromium: axe, keyboard, screenshots; needs Chromium
	$(BIN)/python -m pytest -m browser tests/browser

test-deploy: $(DEPLOY) ## deploy/: the chart, manifests, dashboards, units and compose files, by the tools made for them
	$(BIN)/python -m pytest -m deploy tests/deploy

test-counts: $(DEPLOY) $(BROWSER) ## record how many tests the last five have, for CI (tests/expected_counts.toml)
	for tier in containers spark jvm browser deploy; do \
	  $(BIN)/python -m pytest -q --collect-only --record-count -m $$tier tests/$$tier >/dev/null || exit; done

chaos: $(READY) ## break for longer: COUNT=1000000 simulated schedules, then 50 crashes of containers
	$(BIN)/python tests/simulation/simulate.py 0 $(or $(COUNT),1000000)
	STREAM_SCORER_CHAOS_KILLS=50 $(BIN)/python -m pytest -m containers -s tests/containers/test_crashes.py \
	  tests/containers/test_rebalance.py tests/containers/test_redis_faults.py \
	  tests/containers/test_kafka_faults.py tests/containers/test_back_pressure.py \
	  tests/containers/test_graceful_stop.py tests/containers/test_rollout.py

mutants: $(READY) ## faults put into the code by hand: each must be caught; NAME=words chooses
	$(BIN)/python tests/mutants/run_mutants.py $(NAME)

simulate: $(READY) ## consumers on simulated servers: SEED=... plays one schedule, COUNT=... so many
	$(BIN)/python tests/simulation/simulate.py $(if $(SEED),$(SEED),$(or $(FIRST),0) $(or $(COUNT),1000))

##@ Measure

quality: $(QUALITY) ## how good the model is on two public tasks and two generated shops; ARGS="--tasks movielens --ablation"
	$(BIN)/python tests/quality/quality.py $(ARGS)

bench: $(READY) ## how fast each stage is, with its baseline
	$(BIN)/stream-scorer bench

PEERS := .venv-peers
bench-peers: $(READY) ## beside Quix Streams and Bytewax, on a real broker; needs Java 17 and Maven
	test -d $(PEERS) || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q -r stream_scorer/bench/peers/requirements.txt
	tests/images/build jars >/dev/null
	$(BIN)/stream-scorer bench peers --peers-python $(PEERS)/bin/python

##@ Develop

# Not --quiet: that also hides warnings from `strict: true` of mkdocs.yml, which then fails on none.
docs: $(DOCS) ## the documents as a site in site/; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

images: ## build the images of the container tests where they can't be pulled
	bash tests/images/build

manifests: $(DEPLOY) ## what is generated in deploy/: alerts, Grafana's dashboards, and manifests from the chart; needs Helm
	$(BIN)/python deploy/prometheus/render_alerts.py
	$(BIN)/python deploy/grafana/generate.py
	$(BIN)/python deploy/kubernetes/render.py

LINTED := stream_scorer tests examples deploy/grafana deploy/kubernetes deploy/prometheus
lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/mypy
	$(BIN)/mypy examples tests
	MYPYPATH=deploy/grafana $(BIN)/mypy deploy/grafana deploy/kubernetes
	$(BIN)/mypy deploy/prometheus

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) $(NUMPY2) build *.egg-info

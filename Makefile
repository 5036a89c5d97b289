# Everything a newcomer needs: `make demo` and `make test` set themselves up on a fresh machine.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do $$p -c 'import venv' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-spark test-jvm test-containers chaos quality bench images lint clean

$(READY): pyproject.toml
	@echo "==> creating $(VENV) with $(PYTHON) and installing stream-scorer (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,test,lint]'
	@touch $@

demo: $(READY) ## the whole loop on real data, on embedded parts
	$(BIN)/stream-scorer demo

test: $(READY) ## the tests that need neither Docker nor Java
	$(BIN)/python -m pytest -m 'not containers and not spark and not jvm'

test-spark: $(READY) ## scoring and replay on Spark, in one process and on a cluster; needs Java 17
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[spark]'
	$(BIN)/python -m pytest -m spark tests/spark

test-jvm: $(READY) ## deploy/djl: its own tests, and its scores beside Python's; needs Java 17 and Maven
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[spark]'
	$(BIN)/python -m pytest -m jvm -s tests/jvm

test-containers: $(READY) ## the tests on real Kafka and real Redis
	$(BIN)/python -m pytest -m containers tests/containers

chaos: $(READY) ## kill and break for longer: 50 crashes, 20 of them with transactions
	STREAM_SCORER_CHAOS_KILLS=50 $(BIN)/python -m pytest -m containers -s tests/containers/test_crashes.py \
	  tests/containers/test_rebalance.py tests/containers/test_redis_faults.py \
	  tests/containers/test_kafka_faults.py tests/containers/test_back_pressure.py \
	  tests/containers/test_graceful_stop.py

quality: $(READY) ## how good the model is on the public data and on a generated shop
	$(BIN)/python tests/quality/complete_journey.py
	$(BIN)/python tests/quality/generated_shop.py

bench: $(READY) ## how fast each stage is, beside what it is held to
	$(BIN)/stream-scorer bench

images: ## build the test images locally where no image registry is reached
	bash tests/images/build

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check stream_scorer tests examples
	$(BIN)/ruff format --check stream_scorer tests examples
	$(BIN)/mypy
	$(BIN)/mypy examples

clean:
	rm -rf $(VENV) build *.egg-info

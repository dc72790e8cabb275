# make demo   from a bare clone to results
# make study  the paper's study on a real language model, SmolLM2-135M: hours on two cores; run again, it goes on
# make test   the tests, without network
# make check  lint, format, types, and the rules of reading
# make wheel  the wheel without torch, from own questions to a report; make pip-audit  known vulnerabilities of the lock
# make stress  kill -9 and full disks against the commands, a million fuzzed inputs: hours; STRESS="kill --only merge" for a part
# make site   the documentation as a site, in build/site; a broken link fails
PYTHON ?= python3
BIN := .venv/bin

.PHONY: env demo study test check check-rules types format site lock stress pip-audit wheel clean
env: .venv/.installed

# The locks hold exact versions and the hashes of their files: what differs from them is not installed. Two packages have no
# wheel; they are built by the locked setuptools. The project itself is installed editable and without resolving again.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
.venv/.installed: requirements.lock locks/torch.lock locks/torch-cpu.lock locks/build.lock .ci/locks.py pyproject.toml
	@test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r locks/build.lock
	$(PIP) --require-hashes --no-build-isolation $$($(BIN)/python .ci/locks.py)
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

demo: env
	$(BIN)/medbench demo

# OUT= another directory; STUDY="--dry-run" or other options of studies/smollm2/run.py
DATA ?= ../shared/data
OUT ?= runs/smollm2
study: env
	$(BIN)/python studies/smollm2/run.py --data $(DATA) --out $(OUT) $(STUDY)

test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) types
	$(MAKE) check-rules

# Every rule and every word by which outputs are read must be noticed by an example when it is deleted.
check-rules: env
	$(BIN)/python -m medbench.reading.checked

# Type checkers do not follow setuptools' mapping of the rooms: they are shown the package as it is installed.
types: env
	@rm -rf build/typed && mkdir -p build/typed/medbench
	@ln -s $(CURDIR)/medbench/* $(addprefix $(CURDIR)/,tasks probes trainers reports) build/typed/medbench/
	cd build/typed && ../../$(BIN)/mypy --cache-dir ../../.mypy_cache --config-file ../../pyproject.toml -p medbench

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# In an environment of its own.
SITE := build/site-env
site:
	@test -d $(SITE) || $(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/docs.lock
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict

# Versions stay where they still fit. UPGRADE=--upgrade moves all, UPGRADE="--upgrade-package NAME" one.
LOCK := build/lock
lock:
	@test -d $(LOCK) || $(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	$(LOCK)/bin/python .ci/lock.py $(UPGRADE)

# Asks the index's advisories of every locked package; one that could not be asked fails, so that silence means safe.
AUDIT := build/pip-audit
pip-audit:
	@test -d $(AUDIT) || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.9,<3"
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
	  -r requirements.lock -r locks/torch.lock -r locks/docs.lock

# Not in CI: about two hours on two cores. A small disk needs the right to mount one.
STRESS ?= kill disk
FUZZ ?= --inputs 1000000 --seed 17
stress: env
	PYTHONPATH=benchmarks $(BIN)/python -m stress $(STRESS)
	$(BIN)/python benchmarks/fuzz.py $(FUZZ)

# The wheel of what is committed, installed without torch, from own questions to a report. PYTHON= another Python.
wheel:
	.ci/wheel $(PYTHON)

clean:
	rm -rf .venv build *.egg-info

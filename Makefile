# make demo   from a bare clone to results
# make study  the paper's study on a real language model, SmolLM2-135M: hours on two cores; run again, it goes on
# make test   the tests, without network
# make check  lint, format, types, and the rules of reading
# make stress  kill -9 and full disks against the commands: hours; STRESS="kill --only merge" for a part
# make site   the documentation as a site, in build/site; a broken link fails
PYTHON ?= python3
BIN := .venv/bin

.PHONY: env demo study test check check-rules types format site lock stress clean
env: .venv/.installed

# The lock holds exact versions; the project itself is installed editable and without resolving again.
.venv/.installed: requirements.lock pyproject.toml
	@test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
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

# In an environment of its own, which needs nothing but the extra `docs`.
SITE := build/site-env
site:
	@test -d $(SITE) || $(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check $$($(PYTHON) -c \
	  "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict

# Resolves pyproject.toml anew in a fresh environment and writes what it got.
lock:
	rm -rf build/lock && mkdir -p build && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet torch==2.13.0 setuptools wheel
	build/lock/bin/python -m pip install --quiet '.[local,gguf,train,cluster,dev]'
	build/lock/bin/python -m pip freeze --all --exclude medbench --exclude pip | sed 's/^torch==.*/torch==2.13.0/' > requirements.lock

# Not in CI: about two hours on two cores. A small disk needs the right to mount one.
STRESS ?= kill disk
stress: env
	PYTHONPATH=benchmarks $(BIN)/python -m stress $(STRESS)

clean:
	rm -rf .venv build *.egg-info

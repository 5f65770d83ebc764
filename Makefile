# Everything runs in .venv, made on first use and renewed when what it needs changes.
PYTHON ?= $(shell python3.11 -c "" 2>/dev/null && echo python3.11 || echo python3)
EXTRAS ?= cpu,reid,video,dev
RUN = .venv/bin/python
INSTALLED = .venv/.installed

.PHONY: demo test slow install style embedded docs oldest

demo: $(INSTALLED)
	$(RUN) -m scripts.demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not slow" -n 2

slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m slow -n 2

install: $(INSTALLED)

style: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

embedded: $(INSTALLED)
	$(RUN) -m scripts.embedded

docs: $(INSTALLED)
	$(RUN) -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(RUN) -m mkdocs build --strict

# The oldest versions that pyproject.toml allows, in an environment of their own: for CI.
oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e '.[cpu,video]' 'pytest>=8.3'
	.venv-oldest/bin/python -c "import nontrivial as nt; [getattr(nt, name) for name in nt.__all__]"
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -m "not slow" tests/manifests tests/test_front_door.py

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv .venv
	@echo "installing into .venv: a few minutes the first time"
	$(RUN) -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

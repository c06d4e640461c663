# make demo [FIXED=a.nii.gz MOVING=b.nii.gz]   set up, register a pair, write demo_output/
# make test [ARGS="-k name"]                   set up, run the tests that a change must pass
# make test-all                                the same with the slow tests and other tools' own programs
# make benchmark [CASE=... PEER=...]           ours and the peers on the evaluation volumes
# make benchmark FAMILY=1 [CASE=... MODEL=...] our networks beside each other, resumable
# make fuzz [SECONDS=600]                      damaged files for every reader
# make docs                                    the documents as a web site, in site/
# make lint (style and types) | format | clean
#
# PYTHON=python3.12 make ...  chooses the interpreter (3.10 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE := $(VENV)/.engine-installed
TESTS := $(VENV)/.tests-installed
TOOLS := $(VENV)/.tools-installed
FUZZ := $(VENV)/.fuzz-installed
SITE := $(VENV)/.site-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PINS := $(VENV)/pins.txt
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
CPU_WHEELS := https://download.pytorch.org/whl/cpu

.PHONY: demo test test-all benchmark fuzz docs lint style types format clean
.DELETE_ON_ERROR:

demo: $(ENGINE)
	$(BIN)/python -m carlreg demo --out demo_output $(if $(FIXED),--fixed "$(FIXED)") $(if $(MOVING),--moving "$(MOVING)")

# One process for each core and one thread in each; which tests share one: Testing/support/scheduling.py.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadscope

test: $(TESTS)
	$(PYTEST) $(ARGS)

test-all: $(TESTS) $(TOOLS)
	$(PYTEST) -m "" $(ARGS)

benchmark: $(TESTS)
	$(BIN)/python Testing/benchmarks/$(if $(FAMILY),family.py $(if $(MODEL),--model "$(MODEL)"),run.py \
	    $(if $(PEER),--peer "$(PEER)")) $(if $(CASE),--case "$(CASE)") $(ARGS)

SECONDS ?= 600
fuzz: $(FUZZ)
	$(BIN)/python Testing/fuzz/campaign.py --seconds $(SECONDS) $(ARGS)

docs: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lint: style types

style: $(TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# pyright is a program for Node.js; its wheel fetches it (and Node.js where there is none) at its first run.
types: $(TESTS)
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(TESTS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo_output site build dist CARLRegistration/*.egg-info .pytest_cache .ruff_cache
	find CARLRegistration Testing -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch first: on Linux the package index has only the CUDA build (2 GB more), so without an NVIDIA card the CPU build
# is taken from PyTorch's own index when that can be reached. Everything after it keeps to constraints.txt.
$(ENGINE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else \
	    "carlreg needs Python 3.10 or newer, this is %d.%d. Choose one: make PYTHON=python3.12 ..." % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "Making the virtual environment failed; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@set -e; index=; \
	if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && $(BIN)/python -c \
	    "import urllib.request as u; u.urlopen('$(CPU_WHEELS)/torch/', timeout=5)" 2>/dev/null; then \
	    index="--extra-index-url $(CPU_WHEELS)"; fi; \
	echo "Installing PyTorch $(TORCH) (about 0.2 GB to download; with an NVIDIA card 2 GB more) ..."; \
	if ! $(PIP) install --quiet $$index "torch==$(TORCH)"; then \
	    echo "PyTorch $(TORCH) is not there for this Python or platform: taking the newest that is." >&2; \
	    echo "Results can differ from the README's in the last digits." >&2; \
	    $(PIP) install --quiet $$index "torch>=2.2"; fi
	@echo "Installing carlreg and what it needs (0.1 GB to download, 0.5 GB on disk) ..."
	@$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > $(PINS)
	@grep -v '^torch==' constraints.txt >> $(PINS)
	@$(PIP) install --quiet -c $(PINS) -e ".[report]"
	@touch $@

# The peers that tests compare with come without their dependencies (1.5 GB of ITK, torchvision, ...), which
# only their file handling needs. Slicer's code comes as wheels for some platforms only; elsewhere its tests are skipped.
$(TESTS): $(ENGINE)
	@echo "Installing what the tests need, with Slicer's own code, VTK and Qt (0.5 GB to download, 1.5 GB on disk) ..."
	@$(PIP) install --quiet -c $(PINS) -e ".[test,train,report,formats,cohort]"
	@$(PIP) install --quiet --no-deps icon_registration==1.1.9 unigradicon==1.0.6 footsteps==0.1.9 monai==1.6.1 \
	    || echo "The peers of the parity tests could not be installed: those tests will be skipped." >&2
	@$(PIP) install --quiet -c $(PINS) -e ".[slicer-test]" \
	    || echo "Slicer's code or Qt could not be installed: the tests of the Slicer module will be skipped." >&2
	@touch $@

# Programs whose own code reads our transform files in the slow tests, in an environment of their own (2.6 GB, a minute):
# their pins of NumPy and SciPy are not ours. `make test` does without and reads what they wrote once. What has no wheel for this platform is left out, and its tests are skipped.
$(TOOLS): Testing/engine/formats/tools.txt | $(ENGINE)
	@echo "Installing ANTs, elastix and Greedy for the tests of file formats (1 GB to download, 2.6 GB on disk) ..."
	@$(BIN)/python -m venv $(VENV)/tools
	@for tool in $$(cat $<); do $(VENV)/tools/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-compile $$tool \
	    || echo "$$tool could not be installed: its tests will be skipped." >&2; done
	@touch $@

$(FUZZ): $(TESTS)
	@$(PIP) install --quiet -c $(PINS) -e ".[fuzz]"
	@touch $@

$(SITE): $(ENGINE)
	@$(PIP) install --quiet -c $(PINS) -e ".[docs]"
	@touch $@

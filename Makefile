# isr: the two commands a newcomer needs are `make demo` and `make test`; each does its own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: all setup compile build test exercise crash-lab survive demo bench bench-resume format clean

all: build

setup: ## Debian packages and npm packages; does nothing where they are there.
	scripts/setup

build: compile
	@$(MAKE) --no-print-directory build/programs/trained

compile: setup
	npx --no-install tsc --build

# What `isr` starts with: its programs, each in one file, and V8's compiled code of them.
build/programs/trained: build/tsconfig.tsbuildinfo $(wildcard scripts/programs/*)
	node scripts/programs/bundle.js
	node scripts/programs/train.js
	touch $@

test: build ## Type check, lint, format, unit and native tests.
	npx --no-install eslint .
	npx --no-install prettier --check --log-level warn .
	scripts/run-tests

# A variable of this name becomes an option.
exercise_options = WHAT ENGINE SEED OPS OPS_PER_EVENT FILE_BYTES LINK PROCESSES ROUNDS
option = $(if $($(1)),--$(shell echo $(1) | tr A-Z_ a-z-) '$($(1))')

exercise: build ## Random operations on a real mount, compared with a model; see CONTRIBUTING.md.
	node build/native-test/exerciser/main.js $(foreach name,$(exercise_options),$(call option,$(name)))

crash_options = ENGINE SEED CRASHES MOUNTS
power_loss_options = SEED IMAGES

crash-lab: build ## Processes killed and power lost at random points, compared with models; see CONTRIBUTING.md.
	node build/native-test/crash-lab/power-loss.js $(foreach name,$(power_loss_options),$(call option,$(name)))
	node build/native-test/crash-lab/main.js $(foreach name,$(crash_options),$(call option,$(name)))

survive_options = KILLS SEED MEMORY_MIB FILL_MIB

survive: build ## Kills workers under a running guest; see CONTRIBUTING.md.
	node build/native-test/survive/main.js $(foreach name,$(survive_options),$(call option,$(name)))

demo: build ## The main job on a real guest.
	node build/bench/demo.js

bench: build ## Measurements; JSON under bench/results/.
	node build/bench/run.js

bench_resume_options = GUEST LINK SUBJECTS WORK RUNS RESIDENT APPEND PREPARED CHUNK_SIZE LIMIT_SECONDS
bench_suspend_options = GUEST LINK DIRTY TRICKLE RUNS PREPARED

# One of them with PART=resume or PART=suspend; who chooses subjects wants resumes.
PART = resume $(if $(SUBJECTS),,suspend)

bench-resume: build ## Resumes over a link, beside other ways, and suspends; needs root. See docs/benchmarks.md.
	scripts/setup-bench-resume
ifneq ($(filter resume,$(PART)),)
	node build/bench/resume/main.js $(foreach name,$(bench_resume_options),$(call option,$(name)))
endif
ifneq ($(filter suspend,$(PART)),)
	node build/bench/suspend/main.js $(foreach name,$(bench_suspend_options),$(call option,$(name)))
endif

format: build
	npx --no-install prettier --write .

clean:
	rm -rf build .tap bench/results

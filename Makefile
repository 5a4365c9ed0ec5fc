# `make` lists the targets. Everything runs from .venv, whose packages are pinned by hash in requirements/.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
unexport PYTHONPATH

.PHONY: help
help: ## this list
	@printf 'hearth.fleet: make TARGET\n'
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Try it
.PHONY: demo lab lab-down artifacts
demo: lab artifacts ## a fleet of containers on this machine, converged, with its status
	ansible-playbook site.yml
	ansible-playbook playbooks/status.yml
	@printf '%s\n' '' 'The fleet runs. What to try next:' \
	  '  make demo                                            again: nothing changes' \
	  '  .venv/bin/ansible-playbook playbooks/verify.yml      what has drifted since: nothing' \
	  '  .venv/bin/ansible-playbook site.yml --check --diff   the plan, after an edit below inventories/lab' \
	  '  make lab-down                                        remove the containers'

lab: venv ## start the lab: systemd hosts in containers
	tests/lab/lab up

lab-down: ## stop and remove the lab, and the tests' second one
	tests/lab/lab down
	$(SECOND_LAB) tests/lab/lab down

artifacts: venv ## fetch the daemons that the lab deploys, each checked against its digest
	python tools/fetch_artifacts.py

##@ Develop
.PHONY: venv docs docs-check format lock
venv: ## .venv with the development tools (PYTHON=python3.11 chooses another interpreter)
	@tools/venv

docs: venv ## regenerate the roles' READMEs and docs/reference
	python tools/docs.py

docs-check: venv ## fail when generated documentation is stale
	python tools/docs.py --check

format: venv ## format the Python code
	ruff check --fix-only --quiet .
	ruff format --quiet .

lock: ## pin the newest versions of all requirements again
	tools/lock

##@ Test
.PHONY: test test-more test-fast lint lint-python lint-yaml sanity unit unit-oldest molecule integration integration-rollout pi bench
test: lab second-lab artifacts ## what every change has to pass, in under half an hour
	@echo 'Three lanes side by side: what needs no hosts, and one on each of two labs. What each step says is shown when it has ended.'
	$(MAKE) --jobs=3 --output-sync=line lane-without-hosts lane-roles lane-fleet

test-more: lab second-lab artifacts ## the rest of what CI runs on hosts: a quarter of an hour
	$(MAKE) --jobs=3 --output-sync=line lane-relay1 lane-relay2 lane-backups

test-fast: lint unit ## everything that needs no lab, in under two minutes

lint: lint-python lint-yaml docs-check ## yamllint, ansible-lint (production), ruff, mypy (strict), generated documentation

lint-python: venv
	ruff check --output-format concise .
	ruff format --check --output-format concise .
	mypy -p ansible_collections.hearth.fleet.plugins.module_utils
	mypy tools

lint-yaml: venv
	yamllint --strict .
	ansible-lint --profile production --strict --offline

sanity: venv ## ansible-test sanity, on a copy below .cache
	tools/sanity

unit: venv ## the unit tests, on all processors
	pytest --numprocesses=auto --dist=worksteal tests/unit

unit-oldest: ## the same, with the oldest ansible-core supported
	tools/venv oldest
	.venv-oldest/bin/pytest tests/unit

molecule: venv artifacts ## all scenarios, on the lab
	molecule test --all

# A lab of its own for each lane: tests need not share hosts, and one waits while another works.
SECOND_LAB := LAB_SUFFIX=-second LAB_IPV4_PREFIX=10.77.1 LAB_IPV6_PREFIX=fd77:7e57:0:2
.PHONY: second-lab
second-lab: lab
	$(SECOND_LAB) tests/lab/lab up

LAB_HOSTS := anchor1 relay1 relay2 home1 ops1
FLEET_TESTS := $(addprefix tests/integration/,test_preflight.py test_site.py test_verify.py test_tampering.py)
ROLLOUT_TESTS := tests/integration/test_rollout.py
# One of each kind: all went well, gone back, not begun. The others take half an hour more.
ROLLOUT_CORE := f29 or f30 or f36 or f40 or f42 or f46 or bad_input
ROLLOUT_MORE := $(addprefix tests/integration/,test_rollout_matrix.py test_rollout_load.py)
MATRIX_HOSTS := $(addprefix rollout-matrix-,home1 relay1 relay2)
BACKUP_TESTS := $(addprefix tests/integration/,test_backup_role.py test_backup.py test_restore.py test_drill.py)
RELAY_TESTS := $(addprefix tests/integration/,test_firewall.py test_units.py test_services.py test_bootstrap.py test_odd_daemons.py)
OTHER_TESTS := $(addprefix tests/integration/,test_paths_accounts.py test_releases.py)

integration: lab second-lab artifacts lane-fleet lane-rollouts lane-relay1 lane-relay2 lane-backups ## what can go wrong, done to real hosts: the lanes of `test` and `test-more`

.PHONY: lane-without-hosts lane-roles lane-rollouts lane-fleet lane-backups
lane-without-hosts: ## what fills the pauses of the lanes that wait for hosts
	nice $(MAKE) lint unit sanity

lane-roles: molecule
	$(MAKE) lane-rollouts

lane-rollouts: artifacts
	tests/lab/lab reset $(LAB_HOSTS)
	ansible-playbook site.yml >/dev/null
	pytest $(ROLLOUT_TESTS) -k '$(ROLLOUT_CORE)'

lane-fleet: artifacts
	$(SECOND_LAB) tests/lab/lab reset $(LAB_HOSTS)
	$(SECOND_LAB) pytest $(FLEET_TESTS)

.PHONY: lane-relay1 lane-relay2
lane-relay1 lane-relay2: lane-%:
	tests/lab/lab reset $*
	pytest $(RELAY_TESTS) -k $*

lane-backups: artifacts
	$(SECOND_LAB) tests/lab/lab reset $(LAB_HOSTS)
	$(SECOND_LAB) pytest $(BACKUP_TESTS)
	$(SECOND_LAB) tests/lab/lab reset anchor1 home1
	$(SECOND_LAB) pytest $(OTHER_TESTS)

UBUNTU_LAB := LAB_SUFFIX=-ubuntu LAB_SUITE=noble LAB_IPV4_PREFIX=10.77.4 LAB_IPV6_PREFIX=fd77:7e57:0:5
.PHONY: integration-ubuntu
integration-ubuntu: venv artifacts ## a fleet of Ubuntu hosts: converged, tampered with, verified; firewall, units and services (half an hour)
	$(UBUNTU_LAB) tests/lab/lab up
	$(UBUNTU_LAB) tests/lab/lab reset $(LAB_HOSTS)
	$(UBUNTU_LAB) pytest $(FLEET_TESTS)
	$(UBUNTU_LAB) tests/lab/lab reset relay1
	$(UBUNTU_LAB) pytest $(RELAY_TESTS) -k relay1
	$(UBUNTU_LAB) tests/lab/lab down

.PHONY: integration-disaster
integration-disaster: lab artifacts ## a host is lost, and comes back from its backup with its identity and its data
	pytest tests/integration/test_disaster.py

integration-rollout: lab artifacts ## rollouts under load, killed in every phase, with hosts that stay away (half an hour)
	pytest $(ROLLOUT_TESTS) -k 'not ($(ROLLOUT_CORE))'
	pytest tests/integration/test_rollout_load.py
	$(MAKE) --jobs=3 --output-sync $(MATRIX_HOSTS)
	pytest tests/integration/test_rollout_matrix.py -k 'not (f31 or f39)'

.PHONY: $(MATRIX_HOSTS)
$(MATRIX_HOSTS): rollout-matrix-%:
	pytest tests/integration/test_rollout_matrix.py -k '(f31 or f39) and $*'

pi: venv artifacts ## what containers cannot show, on an emulated Raspberry Pi (half an hour; its image once, ten minutes)
	tests/lab/pi image
	pytest -s tests/pi

bench: venv artifacts lab ## measure against ordinary roles, pyinfra and restic (docs/benchmarks.md)
	for one in age rclone restic zstd; do [ -x /usr/bin/$$one ] || apt-get install --yes -qq $$one; done
	tools/venv bench
	tests/bench/run
	tests/bench/backup

##@ Release
.PHONY: dist clean
dist: venv ## the collection's tarball, in dist/, of what Git knows
	tools/dist

clean: ## remove what these targets made, except the lab
	rm -rf .venv .venv-bench .venv-oldest .ansible dist
	find .cache -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

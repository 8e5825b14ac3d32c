# Every target says what it does in the comment behind its name; `make help` shows them.
# More arguments: make test ARGS='tests/unit -k lexer'   make bench BENCH=compare.py ARGS='--peers mailproxy,dovecot'

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
NEED := ./packaging/debian-packages
TEST_PACKAGES := augeas-lenses augeas-tools curl dovecot-auth-lua dovecot-core dovecot-imapd dovecot-ldap \
	dovecot-lmtpd dovecot-managesieved dovecot-mysql dovecot-pgsql dovecot-pop3d dovecot-sqlite dovecot-submissiond \
	fetchmail groff-base gsasl haproxy isync libnet-ssleay-perl mariadb-server msmtp openssl perl postfix postgresql procps \
	redis-server sieve-connect slapd sqlite3 swaks systemd
# Exim cannot be installed beside Postfix: it is unpacked, and what it is linked with is installed
UNPACKED := exim4-daemon-heavy
TEST_PACKAGES += libdb5.3 libgnutls-dane0 libidn12 libldap-2.5-0 libmariadb3 libnsl2 libnss-wrapper libperl5.36 libpq5 \
	libsasl2-2 libspf2-2
BENCH_PACKAGES := dovecot-core dovecot-imapd dovecot-pop3d gcc haproxy libc6-dev libnginx-mod-mail libssl-dev perdition
BENCH ?= ../shared/bench/compare.py
ARGS ?=
export PYTHON

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: venv
venv: $(VENV)/ready ## make .venv with everything that run, test, lint and bench need

$(VENV)/ready: pyproject.toml
	@./packaging/venv $(VENV) argon2,demo,test,lint

.PHONY: run
run: $(VENV)/ready ## run a demo: the proxy, two backends, some users; Ctrl-C stops it
	@$(BIN)/python -m mailproxy.demo $(ARGS)

.PHONY: lint
lint: $(VENV)/ready ## check style and types
	@$(BIN)/ruff check --quiet . && echo "ruff: clean"
	@$(BIN)/mypy

.PHONY: test
test: $(VENV)/ready ## install what the tests need, run them all
	@$(NEED) $(TEST_PACKAGES)
	@./packaging/unpacked $(VENV)/debian $(UNPACKED)
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

.PHONY: bench
bench: $(VENV)/ready ## measure beside Dovecot, nginx, Perdition and HAProxy (as root)
	@test -f "$(BENCH)" || { echo "there is no comparison script $(BENCH), name one: make bench BENCH=PATH" >&2; exit 1; }
	@test "$$(id -u)" = 0 || { echo "bench counts CPU time with a control group: run it as root" >&2; exit 1; }
	@$(NEED) $(BENCH_PACKAGES)
	@$(BIN)/python $(BENCH) --project . $(ARGS)

.PHONY: clean
clean: ## remove everything that was made here
	rm -rf $(VENV) .demo build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# GNU make and a POSIX shell; what is longer than a line is a script in .ci.

FUZZTIME ?= 30s
TESTTIMEOUT ?= 20m
SOAKTIMEOUT ?= 6h
BENCHTIME ?= 10s
VULNDB ?=

export FUZZTIME TESTTIMEOUT SOAKTIMEOUT VULNDB

.PHONY: help test setup build fmt-check vet staticcheck bench soak fuzz vuln

help:
	@echo 'make test         install what is missing, then every check and every test with -race'
	@echo '                  (RXGUARD_DATA=DIR: the test data; RXGUARD_REQUIRE=all: what cannot be run is a failure;'
	@echo '                  TESTTIMEOUT=$(TESTTIMEOUT) for one package)'
	@echo 'make setup        install the programs and modules that the tests use (through apt, as root or with sudo)'
	@echo 'make build        build everything without cgo'
	@echo 'make fmt-check    list files that gofmt would change'
	@echo 'make vet          go vet'
	@echo 'make staticcheck  staticcheck'
	@echo 'make bench        a guarded signature beside others, on SoftHSM (BENCHTIME=$(BENCHTIME) for each)'
	@echo 'make soak         the tests with their full counts (SOAKTIMEOUT=$(SOAKTIMEOUT) for one package)'
	@echo 'make fuzz         every fuzz target in turn (FUZZTIME=$(FUZZTIME) for each)'
	@echo 'make vuln         known vulnerabilities in what is used (VULNDB=URL for a mirror of the database)'

test:
	@sh .ci/test

setup:
	@sh .ci/setup

build:
	CGO_ENABLED=0 go build ./...

fmt-check:
	@sh .ci/fmt-check

vet:
	go vet ./... ./.ci/testrun

staticcheck:
	@sh .ci/staticcheck

bench:
	@cd examples/bench && go test -run '^$$' -bench . -benchtime $(BENCHTIME) ./...

soak:
	@sh .ci/test soak

fuzz:
	@sh .ci/fuzz

vuln:
	@sh .ci/vuln

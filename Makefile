# Needs Go, gcc and g++ (or clang), make and git. Other tools are built on first use: see tools/install.
SHELL := /bin/bash

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
DATA    ?= ./tidemark-data

.DEFAULT_GOAL := help
.PHONY: help build build-nocgo run run-minio run-cluster test race kill kill-matrix sim mutants nemesis kill-leaders drain-load twin conformance compat lint proto fuzz bench bench-kafka tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/tidemark
	CGO_ENABLED=1 go build -ldflags '-X main.version=$(VERSION)' -o bin/tidemark ./cmd/tidemark

build-nocgo: ## build bin/tidemark as a static binary without the SQL engine, all it has else
	CGO_ENABLED=0 go build -ldflags '-X main.version=$(VERSION)' -o bin/tidemark ./cmd/tidemark

run: build ## run Tidemark with demo data in DATA (./tidemark-data), on http://127.0.0.1:8640
	exec bin/tidemark dev --demo --data-dir '$(DATA)'

run-minio: build ## run it on a real MinIO and a real separate etcd, with data in DATA/minio-demo
	exec deploy/run-minio.sh '$(DATA)/minio-demo'

run-cluster: build ## run three nodes on one etcd and a real MinIO, with data in DATA-cluster
	exec deploy/run-cluster.sh '$(DATA)-cluster'

test: ## run every test, also those that need a real S3 server
	@tools/install minio >/dev/null
	go test -count=1 ./... # never cached: some tests build and run the command, which the cache does not see
	TIDEMARK_SIM_SHRINK=0 go test -count=1 -tags mutants -run TestMutants ./ingest
	$(MAKE) conformance

race: ## run every test under the race detector
	@tools/install minio >/dev/null
	CGO_ENABLED=1 go test -count=1 -race ./...

KILLS ?= 50
kill: ## kill -9 the process KILLS (50) times under load, on each durability, and look what is left
	TIDEMARK_KILLS='$(KILLS)' go test -count=1 -timeout 60m -v ./cmd/tidemark/killtest

kill-matrix: ## kill a node at every durable step, on each durability, and recover it
	TIDEMARK_KILL_MATRIX=full go test -count=1 -timeout 60m -run TestKillMatrix -v ./cmd/tidemark/killtest

SEEDS ?= 2000
STATES ?= 100000
sim: ## run SEEDS (2000) simulated clusters, and search small ones through STATES (100000) states
	TIDEMARK_SIM_SEEDS='$(SEEDS)' TIDEMARK_SIM_STATES='$(STATES)' go test -count=1 -timeout 24h -run 'TestClusterSim|TestClusterSmall' -v ./ingest

mutants: ## put known bugs on, one by one, and see that the simulation finds each
	go test -count=1 -timeout 4h -tags mutants -run TestMutants -v ./ingest

NEMESIS ?= 10m
CLIENTS ?= own
nemesis: ## break a real cluster of three nodes, three etcd and a MinIO for NEMESIS (10m), and check what CLIENTS (own, kafka, kafka-848) saw
	@tools/install minio >/dev/null
	TIDEMARK_NEMESIS='$(NEMESIS)' TIDEMARK_NEMESIS_CLIENTS='$(CLIENTS)' TIDEMARK_NEMESIS_SVG='$(CURDIR)/bin/nemesis.svg' go test -count=1 -timeout 6h -run 'TestNemesis$$' -v ./proof/nemesis

KILL_LEADERS ?= 2m
kill-leaders: ## kill -9 the leader of most partitions every 15 s for KILL_LEADERS (2m) under load, and check what CLIENTS (own, kafka, kafka-848) saw
	@tools/install minio >/dev/null
	TIDEMARK_KILL_LEADERS='$(KILL_LEADERS)' TIDEMARK_NEMESIS_CLIENTS='$(CLIENTS)' TIDEMARK_NEMESIS_SVG='$(CURDIR)/bin/kill-leaders.svg' go test -count=1 -timeout 6h -run 'TestKillLeaders$$' -v ./proof/nemesis

DRAIN_LOAD ?= 1m
drain-load: ## drain one node after the other for DRAIN_LOAD (1m) under load, and check what CLIENTS (own, kafka, kafka-848) saw
	@tools/install minio >/dev/null
	TIDEMARK_DRAIN_LOAD='$(DRAIN_LOAD)' TIDEMARK_NEMESIS_CLIENTS='$(CLIENTS)' TIDEMARK_NEMESIS_SVG='$(CURDIR)/bin/drain-load.svg' go test -count=1 -timeout 6h -run 'TestDrainUnderLoad$$' -v ./proof/nemesis

QUERIES ?= 5000
twin: ## ask QUERIES (5000) random statements under load and kills, and compare each answer with plain DuckDB's
	TIDEMARK_TWIN_QUERIES='$(QUERIES)' CGO_ENABLED=1 go test -count=1 -timeout 60m -v ./cmd/tidemark/twintest

conformance: build ## put the Kafka clients that are Go modules through every story, and compare with the table in docs/kafka.md
	cd ingest/kafka/conformance && TIDEMARK_BIN='$(CURDIR)/bin/tidemark' CGO_ENABLED=1 go test -count=1 -timeout 10m $(CONFORMANCE) .

compat: build ## the same with Java, KafkaJS, kcat and Kafka's own commands, for which a JVM, Maven, Node, npm and kcat are needed
	cd ingest/kafka/conformance && TIDEMARK_BIN='$(CURDIR)/bin/tidemark' CGO_ENABLED=1 go test -count=1 -timeout 20m -compat $(CONFORMANCE) .

lint: ## run every static check
	@tools/lint

proto: ## generate Go code from proto/
	@tools/proto

FUZZTIME ?= 30s
fuzz: ## run each fuzz target for FUZZTIME (30s)
	@tools/fuzz '$(FUZZTIME)'

BENCH ?= .
COUNT ?= 1
bench-kafka: ## measure the Kafka listener beside Apache Kafka (java and mvn): some fifteen minutes, nothing else should run
	@tools/install minio >/dev/null
	TIDEMARK_BENCH_KAFKA=1 go test -count=1 -timeout 2h -run 'TestSideBySide|TestOnMinIO' -v ./ingest/kafka/kafkabench

bench: ## run the benchmarks that match BENCH (all), COUNT times (1)
	go test ./... -run '^$$' -bench '$(BENCH)' -benchmem -count '$(COUNT)'

tools: ## build every tool of tools/versions
	@tools/install

clean: ## remove what was built here; data and the tools' cache stay
	rm -rf bin

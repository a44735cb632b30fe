package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestServerConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		name, message string
		edit          func(*serverConfig)
	}{
		{"good", "", func(*serverConfig) {}},
		{"kafka off", "", func(c *serverConfig) { c.kafka = "off" }},
		{"kafka on", "", func(c *serverConfig) { c.kafka = "127.0.0.1:9092" }},
		{"kafka port alone", "Kafka listener", func(c *serverConfig) { c.kafka = "9092" }},
		{"kafka advertised", "", func(c *serverConfig) { c.kafka, c.advertiseKafka = "0.0.0.0:9092", "node1.example.com:9092" }},
		{"kafka advertised as URL", "Kafka's clients", func(c *serverConfig) { c.advertiseKafka = "http://node1:9092" }},
		{"kafka advertised everywhere", "none that they could dial", func(c *serverConfig) { c.advertiseKafka = "0.0.0.0:9092" }},
		{"kafka advertised nowhere", "none that they could dial", func(c *serverConfig) { c.advertiseKafka = "node1:0" }},
		{"kafka advertised and off", "--kafka off", func(c *serverConfig) { c.kafka, c.advertiseKafka = "off", "node1:9092" }},
		{"kafka partitions", "--kafka-partitions 10001", func(c *serverConfig) { c.kafkaPartitions = 10_001 }},
		{"later role", "role compact is not in this version", func(c *serverConfig) { c.roles = []string{"ingest", "compact"} }},
		{"unknown role", `unknown role "brew"`, func(c *serverConfig) { c.roles = []string{"brew"} }},
		{"no role", "no role", func(c *serverConfig) { c.roles = nil }},
		{"no directory", "data directory is missing", func(c *serverConfig) { c.dataDir = "" }},
		{"etcd", "etcd endpoint", func(c *serverConfig) { c.etcd = []string{"127.0.0.1:2379"} }},
		{"advertise", "advertise", func(c *serverConfig) { c.advertise = "node1:8640" }},
		{"node", "--node-id", func(c *serverConfig) { c.nodeID = "a/b" }},
		{"cluster", "--cluster", func(c *serverConfig) { c.cluster = ".." }},
		{"flush", "flush interval", func(c *serverConfig) { c.flushInterval = time.Hour }},
		{"rows", "--query-rows -1", func(c *serverConfig) { c.roles, c.queryTimeout, c.queryRows = []string{roleQuery}, time.Second, -1 }},
		{"host", "not a host name", func(c *serverConfig) { c.allowHosts = []string{"http://x/"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := serverConfig{dataDir: "d", http: "127.0.0.1:8640", cluster: "dev", roles: []string{roleIngest}}
			cfg.tailMemory, cfg.queryMemory, cfg.querySpace = defaultTailMemory, defaultQueryMemory, defaultQuerySpace
			c.edit(&cfg)
			err := cfg.check()
			if c.message == "" {
				if err != nil || !filepath.IsAbs(cfg.dataDir) {
					t.Errorf("error %v, directory %s", err, cfg.dataDir)
				}
				return
			}
			var f *failure
			if !errors.As(err, &f) || f.code != exitUsage || f.next == "" || !strings.Contains(err.Error(), c.message) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestServerConfigDerives(t *testing.T) {
	c := serverConfig{dataDir: "/var/lib/tide mark", http: "127.0.0.1:8640", advertise: "http://Node1.example.com:8640", allowHosts: []string{"logs"}}
	if got := c.storeURL(); got != "file:///var/lib/tide%20mark/store" {
		t.Errorf("store %s", got)
	}
	if got := c.hosts(); !slices.Contains(got, "Node1.example.com:8640") || !slices.Contains(got, "logs") {
		t.Errorf("hosts %v", got)
	}
	if c.flushEvery() != localFlushInterval {
		t.Error("a local store is flushed every 10 ms")
	}
	c.store = "s3://bucket/prefix"
	if c.flushEvery() != s3FlushInterval {
		t.Error("S3 is flushed every 250 ms")
	}
}

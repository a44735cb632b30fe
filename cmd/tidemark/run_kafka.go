package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/tidemark-io/tidemark/ingest/kafka"
	"github.com/tidemark-io/tidemark/meta"
)

// Defaults of the Kafka listener.
const (
	defaultKafka           = "127.0.0.1:9092"
	defaultKafkaPartitions = 1
	kafkaOff               = "off"
)

// kafkaRole is the Kafka listener of a process with the role ingest, from the moment when its port is open. Its methods may be called on nil.
type kafkaRole struct {
	listener net.Listener
	server   *kafka.Server
	served   chan error
}

// openKafka makes the server of a listener that is open. The listener stays the caller's until serve.
func (p *nodeProcess) openKafka(l net.Listener) (*kafkaRole, error) {
	telemetry, err := kafka.NewTelemetry(p.telemetry.meters)
	if err != nil {
		return nil, err
	}
	server, err := kafka.New(kafka.Config{
		Self: meta.NodeID(p.id.node), Cluster: p.log.router, Groups: p.log.groups,
		Log: func() (kafka.Log, error) {
			node, err := p.late.get()
			if err != nil {
				return nil, err
			}
			return node, nil
		},
		Advertise: p.cfg.advertiseKafka, AutoCreateTopics: p.cfg.kafkaAutoCreate, Partitions: int32(p.cfg.kafkaPartitions),
		Clock: p.deps.clock, Logger: p.deps.logger, Telemetry: telemetry,
	})
	if err != nil {
		return nil, err
	}
	return &kafkaRole{listener: l, server: server, served: make(chan error, 1)}, nil
}

// serve takes clients in.
func (k *kafkaRole) serve() {
	go func() { k.served <- k.server.Serve(k.listener) }()
}

// failed delivers the error that ended the listener, nil after close.
func (k *kafkaRole) failed() <-chan error {
	if k == nil {
		return nil
	}
	return k.served
}

// close takes nothing more, lets what was taken be answered as long as ctx allows, and ends every connection.
func (k *kafkaRole) close(ctx context.Context) {
	k.server.Drain(ctx)
	k.server.Close()
}

// kafkaAddress is how Kafka's clients on this machine reach the process; "" when they cannot.
func (p *nodeProcess) kafkaAddress() string {
	if p.kafka == nil {
		return ""
	}
	return localAddress(p.kafka.listener)
}

// advertisedKafka is where the other nodes tell Kafka's clients that this one is.
func (p *nodeProcess) advertisedKafka() string {
	if p.kafka != nil && p.cfg.advertiseKafka != "" {
		return p.cfg.advertiseKafka
	}
	return p.kafkaAddress()
}

// greetKafka tells what Kafka's clients of this node will stumble over.
func (p *nodeProcess) greetKafka(nodes []meta.NodeInfo) {
	warn := p.deps.logger.Warn
	self, address := meta.NodeID(p.id.node), p.advertisedKafka()
	const reach = "Kafka's clients cannot reach what a node leads that does not listen for them"
	const listen = "give every node with the role ingest a --kafka address, or none"
	alone := true
	for _, other := range nodes {
		switch {
		case other.ID == self || len(other.Roles) > 0 && !slices.Contains(other.Roles, roleIngest):
			continue
		case address == "" && other.Kafka != "":
			warn(reach, "node", self, "other", other.ID, "kafka", other.Kafka, "next", listen)
			return
		case other.Kafka == "" && address != "":
			warn(reach, "node", other.ID, "other", self, "kafka", address, "next", listen)
		case other.Kafka == address && address != "":
			warn("another node advertises the same address to Kafka's clients, so they find only one of the two",
				"node", self, "other", other.ID, "kafka", address, "next", "give each node its own --kafka and --advertise-kafka")
		}
		alone = false
	}
	if address != "" && !alone && p.cfg.advertiseKafka == "" && anyAddress(p.cfg.kafka) {
		warn("Kafka's clients that ask other nodes cannot reach this one where it advertises itself",
			"node", self, "kafka", address, "next", "give --advertise-kafka the HOST:PORT by which they can")
	}
}

// checkBrokerID refuses a node that Kafka's clients could not tell from another one of its cluster. Two that start at the same moment may
// miss each other; then clients see one of them only.
func (p *nodeProcess) checkBrokerID(ctx context.Context) error {
	if p.kafka == nil {
		return nil
	}
	nodes, err := p.client.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("look for other brokers: %w", err)
	}
	self := meta.NodeID(p.id.node)
	for _, other := range nodes {
		if other.ID != self && other.Kafka != "" && kafka.BrokerID(other.ID) == kafka.BrokerID(self) {
			return fail(exitFailed, "give this node another name: another --node-id with a data directory of its own, or --kafka off",
				"node %s would have broker id %d for Kafka's clients, which node %s has: the id is a hash of the name", self, kafka.BrokerID(self), other.ID)
		}
	}
	return nil
}

// kafkaOn tells whether this process listens for Kafka's clients.
func (c *serverConfig) kafkaOn() bool {
	return c.kafka != "" && c.kafka != kafkaOff && c.has(roleIngest)
}

func (c *serverConfig) checkKafka() error {
	if c.kafka != "" && c.kafka != kafkaOff {
		if _, _, err := net.SplitHostPort(c.kafka); err != nil {
			return usagef("give --kafka HOST:PORT, for example --kafka "+defaultKafka+", or --kafka off", "Kafka listener %q: %w", c.kafka, err)
		}
	}
	if c.kafkaPartitions < 0 || c.kafkaPartitions > meta.MaxPartitions {
		return usagef(fmt.Sprintf("use 1 to %d", meta.MaxPartitions), "--kafka-partitions %d is out of range", c.kafkaPartitions)
	}
	if c.advertiseKafka == "" {
		return nil
	}
	const next = "give HOST:PORT, for example --advertise-kafka node1.example.com:9092"
	host, port, err := net.SplitHostPort(c.advertiseKafka)
	if err != nil {
		return usagef(next, "address to advertise to Kafka's clients %q: %w", c.advertiseKafka, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	ip, ipErr := netip.ParseAddr(host)
	if err != nil || number == 0 || host == "" || ipErr == nil && ip.IsUnspecified() {
		return usagef(next, "address to advertise to Kafka's clients %q is none that they could dial", c.advertiseKafka)
	}
	if c.kafka == kafkaOff {
		return usagef("leave one of the two out", "--advertise-kafka %s with --kafka off", c.advertiseKafka)
	}
	return nil
}

package main

import (
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// The roles of this version; laterRoles are those that will come.
const (
	roleIngest = "ingest"
	roleQuery  = "query"
)

var laterRoles = []string{"compact"}

// Defaults of the query role.
const (
	defaultTailMemory   = 512 << 20
	defaultQueryMemory  = 512 << 20
	defaultQuerySpace   = 16 << 30
	defaultQueryTimeout = time.Minute
)

// Flush intervals by where objects go: a local store costs an fsync, S3 a request that is paid for.
const (
	localFlushInterval = 10 * time.Millisecond
	s3FlushInterval    = 250 * time.Millisecond
)

// serverConfig is what dev and serve are told.
type serverConfig struct {
	dataDir    string
	http       string
	insecure   bool
	allowHosts []string
	logLevel   string

	// The Kafka listener.
	kafka           string // HOST:PORT, or "" or off for none
	advertiseKafka  string
	kafkaAutoCreate bool
	kafkaPartitions int

	// dev
	demo bool

	// serve
	etcd       []string // empty: embedded
	store      string   // empty: in the data directory
	s3Endpoint string
	advertise  string
	roles      []string
	nodeID     string
	zone       string
	cluster    string

	flushInterval time.Duration // 0: by the store

	// The query role.
	tailMemory   byteSize      // of all topics together
	queryMemory  byteSize      // of one query
	querySpace   byteSize      // on disk: of one query, and of all topics together
	queryTimeout time.Duration // of a query that asks for none
	queriesBusy  int           // at once; 0: by the cores
	queryRows    int64         // of one result; 0: no limit
}

// commonFlags are those of dev and serve alike.
func (c *serverConfig) commonFlags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.http, "http", "127.0.0.1:8640", "`HOST:PORT` for Connect, gRPC, JSON, metrics and probes")
	f.StringVar(&c.kafka, "kafka", defaultKafka, "`HOST:PORT` for Kafka's clients, or off")
	f.StringVar(&c.advertiseKafka, "advertise-kafka", "", "`HOST:PORT` by which Kafka's clients reach this node; default is the address that each of them dialled")
	f.BoolVar(&c.kafkaAutoCreate, "kafka-auto-create-topics", c.kafkaAutoCreate, "make a topic when a Kafka client asks for one that is not there and does not forbid it")
	f.IntVar(&c.kafkaPartitions, "kafka-partitions", defaultKafkaPartitions, "how many partitions a topic has that a Kafka client makes without saying how many")
	f.BoolVar(&c.insecure, "insecure", false, "allow an address that others can reach, without TLS or authentication")
	f.StringSliceVar(&c.allowHosts, "allow-host", nil, "`NAME` by which clients may call besides loopback names; may be repeated")
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&c.flushInterval, "flush-interval", 0, "how long an acknowledgement may wait for more batches of its object; default 10ms on a local store, 250ms on S3")
	c.tailMemory, c.queryMemory, c.querySpace = defaultTailMemory, defaultQueryMemory, defaultQuerySpace
	f.Var(&c.tailMemory, "tail-memory", "memory for the records of topics that are queried, all together; what is over it goes to disk")
	f.Var(&c.queryMemory, "query-memory", "memory of one query beside the records it reads; what is over it goes to disk")
	f.Var(&c.querySpace, "query-disk", "temporary disk space of one query, and of the records of all topics that are queried")
	f.DurationVar(&c.queryTimeout, "query-timeout", defaultQueryTimeout, "how long a query takes at most when it does not say; it may ask for an hour")
	f.IntVar(&c.queriesBusy, "queries", 0, "how many queries compute at once, the others wait; 0 is two for each processor")
	f.Int64Var(&c.queryRows, "query-rows", 0, "how many rows the result of one query may have, more end it; 0 is no limit")
	a.settings.register(cmd, f, "http", "kafka", "advertise-kafka", "kafka-auto-create-topics", "kafka-partitions", "insecure", "allow-host", "log-level", "flush-interval",
		"tail-memory", "query-memory", "query-disk", "query-timeout", "queries", "query-rows")
}

// check refuses what cannot be served before anything is opened.
func (c *serverConfig) check() error {
	if c.dataDir == "" {
		return usagef("give --data-dir a directory for the log on disk", "the data directory is missing")
	}
	dir, err := filepath.Abs(c.dataDir)
	if err != nil {
		return usagef("give --data-dir an absolute path", "find data directory %s: %w", c.dataDir, err)
	}
	c.dataDir = dir
	if err := checkHosts(c.allowHosts); err != nil {
		return err
	}
	if err := c.checkKafka(); err != nil {
		return err
	}
	if c.flushInterval < 0 || c.flushInterval > time.Minute {
		return usagef("use 1ms to 1m", "flush interval %s is out of range", c.flushInterval)
	}
	for _, role := range c.roles {
		switch {
		case role == roleIngest, role == roleQuery:
		case slices.Contains(laterRoles, role):
			return usagef("use --roles ingest,query", "role %s is not in this version", role)
		default:
			return usagef("use --roles ingest,query", "unknown role %q", role)
		}
	}
	if len(c.roles) == 0 {
		return usagef("use --roles ingest,query", "no role was given")
	}
	if c.has(roleQuery) {
		if err := c.checkQueries(); err != nil {
			return err
		}
	}
	for _, e := range c.etcd {
		if u, err := url.Parse(e); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return usagef("give URLs, for example --etcd http://10.0.0.5:2379,http://10.0.0.6:2379", "etcd endpoint %q is not an http or https URL", e)
		}
	}
	if c.advertise != "" {
		if u, err := url.Parse(c.advertise); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return usagef("give a URL, for example --advertise http://node1.example.com:8640", "address to advertise %q is not an http or https URL", c.advertise)
		}
	}
	if c.nodeID != "" {
		if err := checkName("--node-id", c.nodeID); err != nil {
			return err
		}
	}
	return checkName("--cluster", c.cluster)
}

// has tells whether this process has a role.
func (c *serverConfig) has(role string) bool { return slices.Contains(c.roles, role) }

// Least sizes with which queries can work at all.
const (
	leastTailMemory  = 16 << 20
	leastQueryMemory = 32 << 20
	leastQuerySpace  = 64 << 20
)

func (c *serverConfig) checkQueries() error {
	for _, s := range []struct {
		flag  string
		value byteSize
		least byteSize
	}{{"--tail-memory", c.tailMemory, leastTailMemory}, {"--query-memory", c.queryMemory, leastQueryMemory}, {"--query-disk", c.querySpace, leastQuerySpace}} {
		if s.value < s.least {
			return usagef("use "+s.least.String()+" or more", "%s %s is too little", s.flag, s.value.String())
		}
	}
	if c.queryTimeout <= 0 || c.queryTimeout > time.Hour {
		return usagef("use 1s to 1h", "query timeout %s is out of range", c.queryTimeout)
	}
	if c.queryRows < 0 {
		return usagef("use 1 or more, or 0 for no limit", "--query-rows %d is out of range", c.queryRows)
	}
	if c.queriesBusy < 0 || c.queriesBusy > 1000 {
		return usagef("use 1 to 1000, or 0", "--queries %d is out of range", c.queriesBusy)
	}
	return nil
}

// checkName holds names to what a key in etcd and an object's name can carry.
func checkName(flag, name string) error {
	ok := name != "" && len(name) <= 64 && strings.Trim(name, ".") != ""
	for _, r := range name {
		ok = ok && (r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if !ok {
		return usagef("use 1 to 64 letters, digits, dots, dashes and underscores", "%s: bad name %q", flag, name)
	}
	return nil
}

// onS3 tells whether objects go to S3.
func (c *serverConfig) onS3() bool { return strings.HasPrefix(c.store, "s3://") }

func (c *serverConfig) flushEvery() time.Duration {
	switch {
	case c.flushInterval > 0:
		return c.flushInterval
	case c.onS3():
		return s3FlushInterval
	}
	return localFlushInterval
}

// garbageGrace is how long objects that nothing refers to are kept for slow readers. On a local disk, where a flush may come
// every few milliseconds and nobody is far away, they would be many: a minute will do.
func (c *serverConfig) garbageGrace() time.Duration {
	if c.onS3() {
		return 10 * time.Minute
	}
	return time.Minute
}

// hosts are the names by which clients may call.
func (c *serverConfig) hosts() []string {
	out := append([]string{hostName(c.http)}, c.allowHosts...)
	if u, err := url.Parse(c.advertise); err == nil && u.Host != "" {
		out = append(out, u.Host)
	}
	return slices.DeleteFunc(out, func(h string) bool { return hostName(h) == "" })
}

// metadataName says for people which etcd is used.
func (c *serverConfig) metadataName() string {
	if len(c.etcd) == 0 {
		return "the embedded etcd"
	}
	return "etcd at " + strings.Join(c.etcd, ",")
}

// storeURL is where objects go; dataDir is absolute by then.
func (c *serverConfig) storeURL() string {
	if c.store != "" {
		return c.store
	}
	return (&url.URL{Scheme: "file", Path: path.Join(c.dataDir, "store")}).String()
}

package query

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/query/tail"
)

// maxSQL is the longest statement in bytes.
const maxSQL = 1 << 20

// Limits are the settings of the service. A zero value is the default.
type Limits struct {
	// Concurrent is how many queries compute at once; 0 is two for each core, and at least 2.
	Concurrent int
	// Waiting is how many queries may wait for a slot; 0 is 1,000.
	Waiting int
	// WaitingPerConnection is how many of one connection may; 0 is 100.
	WaitingPerConnection int
	// Stalled is how many queries whose clients take nothing are kept while others wait; 0 is as many as Concurrent. Concurrent and
	// Stalled together, times the engine's memory for a query, bound the memory that queries take.
	Stalled int
	// Timeout is a query's time when it asks for none; 0 is 60 s. MaxTimeout bounds what it may ask for; 0 is an hour.
	Timeout    time.Duration
	MaxTimeout time.Duration
	// MaxRows ends a query whose result has more rows; 0 is no limit.
	MaxRows int64
}

func (l Limits) withDefaults(cores int) Limits {
	if l.Concurrent == 0 {
		l.Concurrent = max(2, 2*cores)
	}
	if l.Waiting == 0 {
		l.Waiting = 1_000
	}
	if l.WaitingPerConnection == 0 {
		l.WaitingPerConnection = 100
	}
	if l.Stalled == 0 {
		l.Stalled = l.Concurrent
	}
	if l.MaxTimeout == 0 {
		l.MaxTimeout = time.Hour
	}
	if l.Timeout == 0 {
		l.Timeout = min(time.Minute, l.MaxTimeout)
	}
	return l
}

// Validate checks the settings.
func (l Limits) Validate() error {
	switch {
	case l.Concurrent < 0, l.Waiting < 0, l.WaitingPerConnection < 0, l.Stalled < 0, l.MaxRows < 0:
		return fmt.Errorf("a limit of queries is below 0: %+v", l)
	case l.Timeout < 0, l.MaxTimeout < 0:
		return fmt.Errorf("a time of queries is below 0: %+v", l)
	case l.MaxTimeout > 0 && l.Timeout > l.MaxTimeout:
		return fmt.Errorf("the time of a query that asks for none (%s) is above what it may ask for (%s)", l.Timeout, l.MaxTimeout)
	}
	return nil
}

// Config says what a Service is made of.
type Config struct {
	// Engine executes; nil refuses every statement with NO_SQL_ENGINE. The service does not close it.
	Engine Engine
	// Meta has topics and their columns; Client reads the log and asks nodes for its ends. Both stay the caller's.
	Meta   *meta.Client
	Client *client.Client
	// FS and Dir are where the records of topics go that do not fit into memory. The directory is the service's alone, and empty
	// at every start.
	FS  disk.FS
	Dir string
	// TailMemory and TailDisk bound the records of topics that are held as columns, in bytes; 0 are the defaults of package tail.
	TailMemory int64
	TailDisk   int64
	// TailIdle is how long the records of a topic that nobody queries are held; 0 is the default of package tail.
	TailIdle time.Duration

	Clock clock.Clock
	// Random is where query ids come from, such as crypto/rand.Reader.
	Random io.Reader
	Logger *slog.Logger
	// Memory gives the buffers of tables. An engine that reads them from outside Go needs memory that is not Go's.
	Memory memory.Allocator
	// Meters and Tracers may be nil: nothing is recorded then.
	Meters  metric.MeterProvider
	Tracers trace.TracerProvider
	// Interceptors see every unary call and the beginning of streams.
	Interceptors []connect.Interceptor
	Limits       Limits
}

// New makes a service and what it needs below. Close ends it.
func New(cfg Config) (*Service, error) {
	if cfg.Meta == nil || cfg.Client == nil || cfg.FS == nil || cfg.Dir == "" {
		return nil, errors.New("make the query service: meta, client, file system and directory are needed")
	}
	topics := newCatalog(cfg.Meta)
	store, err := tail.Open(tail.Config{
		Budget: cfg.TailMemory, SpillBytes: cfg.TailDisk, IdleAfter: cfg.TailIdle, Dir: cfg.Dir, FS: cfg.FS, Clock: cfg.Clock, Logger: cfg.Logger,
		Memory: cfg.Memory, Log: tail.Consumers{Client: cfg.Client}, Schemas: topics,
	})
	if err != nil {
		return nil, fmt.Errorf("make the query service: %w", err)
	}
	s, err := newService(components{
		engine: cfg.Engine, topics: topics, log: cfg.Client, tail: tailStore{store}, clock: cfg.Clock, random: cfg.Random, logger: cfg.Logger,
		memory: cfg.Memory, meters: cfg.Meters, tracers: cfg.Tracers, interceptors: cfg.Interceptors, limits: cfg.Limits,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	s.below = store
	return s, nil
}

// components are what a Service works with.
type components struct {
	engine       Engine
	topics       topicReader
	log          endReader
	tail         tailReader
	clock        clock.Clock
	random       io.Reader
	logger       *slog.Logger
	memory       memory.Allocator
	meters       metric.MeterProvider
	tracers      trace.TracerProvider
	interceptors []connect.Interceptor
	limits       Limits
}

func (c components) validate() error {
	if c.clock == nil || c.random == nil || c.logger == nil || c.memory == nil {
		return errors.New("make the query service: clock, random, logger and memory are needed")
	}
	if err := c.limits.Validate(); err != nil {
		return fmt.Errorf("make the query service: %w", err)
	}
	return nil
}

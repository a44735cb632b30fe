// Package embedded runs a real etcd inside this process, for tidemark dev and for tests: one member on loopback ports that
// nobody chose, with its data in one directory.
//
// It is etcd as anybody runs it, down to its fsyncs; only what a laptop feels is set smaller: the files of its log, and how
// many old ones it keeps. The ports change at every start; the stored membership of one member does not mind. History is not
// compacted by etcd but by meta.Compactor, as with an etcd outside.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Config is what an embedded etcd is told.
type Config struct {
	// Dir holds its data; nobody else writes there.
	Dir string
	// Logger takes its warnings; nil for none.
	Logger *slog.Logger
	// StartTimeout bounds the time until it is ready; 30 s when 0.
	StartTimeout time.Duration
}

// What differs from etcd's defaults.
const (
	segmentBytes  = 8 << 20 // of its log; 64 MB by default, several of them kept
	filesKept     = 2
	snapshotEvery = 5_000
	catchUp       = 500
	quotaBytes    = 2 << 30
	heartbeatMs   = 10
	electionMs    = 100
)

// segmentOnce sets the size of etcd's log files, a variable of its package, before the first server starts.
var segmentOnce sync.Once

// Server is a running etcd. Close ends it.
type Server struct {
	// Client is connected to it inside the process, without a socket. It belongs to the server.
	Client *clientv3.Client

	etcd *embed.Etcd
	once sync.Once
}

// Start starts an etcd in a directory, which it makes if need be, and returns when it is ready.
func Start(c Config) (*Server, error) {
	segmentOnce.Do(func() { wal.SegmentSizeBytes = segmentBytes })
	if c.StartTimeout == 0 {
		c.StartTimeout = 30 * time.Second
	}
	etcd, err := embed.StartEtcd(settings(c))
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", c.Dir, err)
	}
	timeout := time.NewTimer(c.StartTimeout) //nolint:forbidigo // guards a start, decides nothing
	defer timeout.Stop()
	select {
	case <-etcd.Server.ReadyNotify():
	case err = <-etcd.Err():
		err = fmt.Errorf("start etcd in %s: %w", c.Dir, err)
	case <-timeout.C:
		err = fmt.Errorf("start etcd in %s: not ready after %v", c.Dir, c.StartTimeout)
	}
	if err != nil {
		etcd.Server.Stop() // before Close, which waits for a member that never became ready
		etcd.Close()
		return nil, err
	}
	return &Server{Client: v3client.New(etcd.Server), etcd: etcd}, nil
}

func settings(c Config) *embed.Config {
	loopback := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	s := embed.NewConfig()
	s.Dir = c.Dir
	s.Name = "tidemark"
	s.ListenClientUrls, s.AdvertiseClientUrls = []url.URL{loopback}, []url.URL{loopback}
	s.ListenPeerUrls, s.AdvertisePeerUrls = []url.URL{loopback}, []url.URL{loopback}
	s.InitialCluster = s.InitialClusterFromName(s.Name)
	s.MaxWalFiles, s.MaxSnapFiles = filesKept, filesKept
	s.SnapshotCount, s.SnapshotCatchUpEntries = snapshotEvery, catchUp
	s.QuotaBackendBytes = quotaBytes
	s.TickMs, s.ElectionMs = heartbeatMs, electionMs
	s.AutoCompactionRetention = "0"
	s.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quietLogger(c.Logger))
	return s
}

// quietLogger passes warnings on. What etcd calls an error while it is being closed is none.
func quietLogger(to *slog.Logger) *zap.Logger {
	if to == nil {
		return zap.NewNop()
	}
	return zap.New(&bridge{to: to, level: zapcore.WarnLevel})
}

// bridge is a zap core that writes to slog.
type bridge struct {
	to     *slog.Logger
	level  zapcore.Level
	fields []zapcore.Field
}

func (b *bridge) Enabled(l zapcore.Level) bool { return l >= b.level }

func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{to: b.to, level: b.level, fields: append(append([]zapcore.Field(nil), b.fields...), fields...)}
}

func (b *bridge) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return checked.AddCore(e, b)
	}
	return checked
}

func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), b.fields...), fields...) {
		f.AddTo(encoder)
	}
	attributes := make([]any, 0, 2*len(encoder.Fields)+2)
	for k, v := range encoder.Fields {
		attributes = append(attributes, k, v)
	}
	// etcd's warnings are about its own pace; ours to see when something else is slow too.
	level := slog.LevelDebug
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelInfo
	}
	b.to.Log(context.Background(), level, "etcd: "+e.Message, attributes...)
	return nil
}

func (b *bridge) Sync() error { return nil }

// Endpoint is where clients outside the process reach it, as host:port.
func (s *Server) Endpoint() string { return s.etcd.Clients[0].Addr().String() }

// Err gives what ended the server by itself.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Defragment gives free space of the database back to the file system. Requests wait while it runs.
func (s *Server) Defragment(ctx context.Context) error {
	_, err := s.Client.Defragment(ctx, s.Endpoint())
	if err != nil {
		return fmt.Errorf("defragment etcd: %w", err)
	}
	return nil
}

// Close ends the server and keeps its data. Safe to call twice.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		err = s.Client.Close()
		if errors.Is(err, context.Canceled) {
			err = nil // what closing a client in the process says
		}
		s.etcd.Close()
	})
	return err
}

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/meta"
)

// Config is what an embedded etcd is told.
type Config struct {
	// Dir holds its data; nobody else writes there. It is made if need be. The server holds a lock in it.
	Dir string
	// Logger takes its warnings; nil for none.
	Logger *slog.Logger
	// StartTimeout bounds the time until it is ready; 30 s when 0.
	StartTimeout time.Duration
	// QuotaBytes is the size of the database at which it refuses writes; 2 GiB when 0.
	QuotaBytes int64
}

// What differs from etcd's defaults.
const (
	segmentBytes   = 8 << 20 // of its log; 64 MB by default, several of them kept
	filesKept      = 2       // of its log and of its snapshots; etcd looks every 30 s whether there are more
	snapshotEvery  = 5_000   // transactions; those since the last snapshot are replayed at a start
	catchUp        = 100     // transactions kept in memory for followers, of which there are none
	quotaBytes     = 2 << 30
	roomShare      = 10 // a tenth of the quota must be free before the alarm is lowered
	heartbeatMs    = 10 // a single member elects itself: electionMs is most of its start
	electionMs     = 100
	memberName     = "tidemark"
	lockFile       = "LOCK"
	defaultTimeout = 30 * time.Second
)

// peerURL stands in the membership, which etcd stores for ever. Nothing listens there: a single member talks to nobody.
var peerURL = url.URL{Scheme: "http", Host: "127.0.0.1:2380"}

// segmentOnce sets the size of etcd's log files, a variable of its package, before the first server starts.
var segmentOnce sync.Once

// Server is a running etcd. Close ends it.
type Server struct {
	// Client is connected to it inside the process, without a socket. It belongs to the server.
	Client *clientv3.Client

	etcd  *embed.Etcd
	log   *bridge
	lock  io.Closer
	quota int64
	once  sync.Once
	err   error // of Close
}

// Start starts an etcd in a directory and returns when it is ready. It fails with disk.ErrLocked while another server, of
// this process or another one, uses the directory.
func Start(c Config) (*Server, error) {
	segmentOnce.Do(func() { wal.SegmentSizeBytes = segmentBytes })
	if c.StartTimeout == 0 {
		c.StartTimeout = defaultTimeout
	}
	if c.QuotaBytes == 0 {
		c.QuotaBytes = quotaBytes
	}
	fsys := disk.OS()
	if err := fsys.MkdirAll(c.Dir); err != nil {
		return nil, fmt.Errorf("start etcd: make directory %s: %w", c.Dir, err)
	}
	// etcd would wait for the lock on its database without an end and without a word.
	lock, err := fsys.Lock(path.Join(c.Dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("start etcd: lock directory %s: %w", c.Dir, err)
	}
	log := &bridge{to: c.Logger, closing: new(atomic.Bool)}
	etcd, err := start(fsys, c, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start etcd in %s: %w", c.Dir, err), lock.Close())
	}
	client := v3client.New(etcd.Server)
	leases := adapter.LeaseServerToLeaseClient(v3rpc.NewQuotaLeaseServer(etcd.Server))
	client.Lease = meta.RenewOnce(client.Lease, leases)
	return &Server{Client: client, etcd: etcd, log: log, lock: lock, quota: c.QuotaBytes}, nil
}

func start(fsys disk.FS, c Config, log *bridge) (etcd *embed.Etcd, err error) {
	first, err := prepare(fsys, c.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		// Some ways in which the files of etcd can be broken end in a panic of its own.
		if p := recover(); p != nil {
			etcd, err = nil, fmt.Errorf("etcd gave up: %v", p)
		}
	}()
	etcd, err = embed.StartEtcd(settings(c, log))
	if err != nil {
		return nil, err
	}
	timeout := clock.System().NewTimer(c.StartTimeout)
	defer timeout.Stop()
	select {
	case <-etcd.Server.ReadyNotify():
		if !first {
			return etcd, nil
		}
		if err = finish(fsys, c.Dir); err == nil {
			return etcd, nil
		}
	case err = <-etcd.Err():
	case <-etcd.Server.StopNotify():
		err = errors.New("it stopped before it was ready")
	case <-timeout.C():
		err = fmt.Errorf("not ready after %v", c.StartTimeout)
	}
	log.closing.Store(true)
	etcd.Server.Stop() // before Close, which waits for a member that never became ready
	etcd.Close()
	return nil, err
}

func settings(c Config, log *bridge) *embed.Config {
	loopback := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	s := embed.NewConfig()
	s.Dir = c.Dir
	s.Name = memberName
	s.ListenClientUrls, s.AdvertiseClientUrls = []url.URL{loopback}, []url.URL{loopback}
	s.ListenPeerUrls, s.AdvertisePeerUrls = nil, []url.URL{peerURL}
	s.InitialCluster = s.InitialClusterFromName(s.Name)
	s.MaxWalFiles, s.MaxSnapFiles = filesKept, filesKept
	s.SnapshotCount, s.SnapshotCatchUpEntries = snapshotEvery, catchUp
	s.QuotaBackendBytes = c.QuotaBytes
	s.TickMs, s.ElectionMs = heartbeatMs, electionMs
	s.AutoCompactionRetention = "0"
	s.EnableGRPCGateway = false // JSON over HTTP, which nobody asked for
	s.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log.zap())
	return s
}

// Endpoint is where clients outside the process reach it, as host:port.
func (s *Server) Endpoint() string { return s.etcd.Clients[0].Addr().String() }

// Err gives what ended the server by itself.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Reclaim gives free space of the database back to the file system, and lowers the alarm of a full one if there is room
// again. Requests wait while it runs: about a second for 100 MiB. It is what meta.CompactorConfig asks for.
func (s *Server) Reclaim(ctx context.Context) error {
	// Not by the client: inside the process its Defragment panics, for nobody watches the server's health.
	if err := s.etcd.Server.Defragment(); err != nil {
		return fmt.Errorf("defragment etcd: %w", err)
	}
	status, err := s.Client.Status(ctx, s.Endpoint())
	if err != nil {
		return fmt.Errorf("ask for the size of etcd: %w", err)
	}
	if len(status.Errors) == 0 || status.DbSize > s.quota-s.quota/roomShare {
		return nil
	}
	alarms, err := s.Client.AlarmList(ctx)
	if err != nil {
		return fmt.Errorf("ask for the alarms of etcd: %w", err)
	}
	for _, alarm := range alarms.Alarms {
		if alarm.Alarm != pb.AlarmType_NOSPACE {
			continue
		}
		if _, err := s.Client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
			return fmt.Errorf("lower the alarm of etcd: %w", err)
		}
	}
	return nil
}

// KV is the metadata store that the server is. It ends with the server.
func (s *Server) KV() meta.KV { return meta.NewEtcd(s.Client) }

// Close ends the server and keeps its data. Safe to call twice.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.log.closing.Store(true)
		err := s.Client.Close()
		if errors.Is(err, context.Canceled) {
			err = nil // what closing a client in the process says
		}
		s.etcd.Close()
		s.err = errors.Join(err, s.lock.Close())
	})
	return s.err
}

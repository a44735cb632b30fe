package ingest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// routeWorld is a cluster of real nodes with their services, on fakes of etcd and object store, over HTTP/2 through pipes. It lives in a
// synctest bubble, so that leases run out at once.
type routeWorld struct {
	t     *testing.T
	ctx   context.Context //nolint:containedctx // the test's
	kv    *metafake.Store
	store *tierfake.Fake
	nodes map[string]*routeNode
	net   *pipeNet
	http  *http.Transport // the clients'
}

// routeNode is one process.
type routeNode struct {
	w        *routeWorld
	id       string
	kv       *cutKV
	node     *Node
	router   *Router
	services *Services
	server   *http.Server
	served   chan error
	listener *pipeListener
	dead     bool
}

// inRouteWorld runs a story in a cluster whose nodes are ready, and closes them behind it.
func inRouteWorld(t *testing.T, nodes int, story func(w *routeWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &routeWorld{
			t: t, ctx: t.Context(), store: tierfake.New(), kv: metafake.New(metafake.Config{Clock: clock.System()}),
			nodes: make(map[string]*routeNode), net: &pipeNet{listeners: make(map[string]*pipeListener)},
		}
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		w.http = &http.Transport{Protocols: protocols, DisableCompression: true, DialContext: w.net.dial}
		defer w.close()
		for n := range nodes {
			w.open(fmt.Sprintf("n%d", n+1))
		}
		story(w)
	})
}

func (w *routeWorld) open(id string) *routeNode {
	w.t.Helper()
	n := &routeNode{w: w, id: id, kv: &cutKV{KV: w.kv}, listener: w.net.listen(id + ":80")}
	client, err := meta.New(meta.Config{KV: n.kv, Cluster: "test", Clock: clock.System(), Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := client.EnsureCluster(w.ctx, ""); err != nil {
		w.t.Fatal(err)
	}
	telemetry, err := NewTelemetry(nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	n.node, err = Open(Config{
		Node: meta.NodeID(id), Disk: "disk-" + id, LogDir: "wal", FlushInterval: 10 * time.Millisecond, LogFileBytes: 1 << 20,
		Info: meta.NodeInfo{HTTP: "http://" + id + ":80"},
	}, Dependencies{FS: crashdisk.New(), Clock: clock.System(), Store: w.store, Meta: client, Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	n.router = openRouter(RouterConfig{
		Self: meta.NodeID(id), Node: func() (*Node, error) { return n.node, nil }, Clock: clock.System(),
		Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry,
	}, w.net.dial)
	n.services, err = NewServices(ServicesConfig{Node: n.router, Cluster: n.router, Clock: clock.System(), Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry})
	if err != nil {
		w.t.Fatal(err)
	}
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	n.server = &http.Server{Handler: n.services, Protocols: both, ReadHeaderTimeout: time.Minute}
	n.served = make(chan error, 1)
	go func() { n.served <- n.server.Serve(n.listener) }()
	w.nodes[id] = n
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	if err := n.node.WaitReady(ctx); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// kill takes a node away as a power cut does: nobody hears anything of it any more, and etcd neither.
func (n *routeNode) kill() {
	n.dead = true
	n.kv.cut.Store(true)
	n.listener.cut()
}

func (w *routeWorld) close() {
	w.http.CloseIdleConnections()
	for _, n := range w.nodes {
		n.services.Close()
	}
	for _, n := range w.nodes {
		n.router.Close()
		_ = n.server.Close()
		<-n.served
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := n.node.Close(ctx); err != nil && !n.dead {
			w.t.Errorf("close %s: %v", n.id, err)
		}
		cancel()
	}
	w.net.close()
}

func (w *routeWorld) after(d time.Duration) { <-clock.System().NewTimer(d).C() }

func (w *routeWorld) create(via, topic string, partitions int32, settings map[string]string) {
	w.t.Helper()
	if _, err := w.nodes[via].topics().CreateTopic(w.ctx, &tidemarkv1.CreateTopicRequest{Name: topic, Partitions: partitions, Config: settings}); err != nil {
		w.t.Fatal(err)
	}
}

// leaders tells who leads the partitions of a topic, as one node knows it.
func (w *routeWorld) leaders(via, topic string) []string {
	w.t.Helper()
	answer, err := w.nodes[via].cluster().ListLeaders(w.ctx, &tidemarkv1.ListLeadersRequest{Topics: []string{topic}})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, l := range answer.GetLeaders() {
		out = append(out, l.GetNode())
	}
	return out
}

// ledBy finds a partition of a topic that a node leads.
func (w *routeWorld) ledBy(topic, node string) int32 {
	w.t.Helper()
	leaders := w.leaders("n1", topic)
	at := slices.Index(leaders, node)
	if at < 0 {
		w.t.Fatalf("node %s leads no partition of %s: %v", node, topic, leaders)
	}
	return int32(at)
}

func (n *routeNode) url() string { return "http://" + n.id + ":80" }

func (n *routeNode) client() *http.Client { return &http.Client{Transport: n.w.http} }

func (n *routeNode) topics() tidemarkv1connect.TopicServiceClient {
	return tidemarkv1connect.NewTopicServiceClient(n.client(), n.url())
}

func (n *routeNode) produce() tidemarkv1connect.ProduceServiceClient {
	return tidemarkv1connect.NewProduceServiceClient(n.client(), n.url())
}

func (n *routeNode) consume() tidemarkv1connect.ConsumeServiceClient {
	return tidemarkv1connect.NewConsumeServiceClient(n.client(), n.url())
}

func (n *routeNode) cluster() tidemarkv1connect.ClusterServiceClient {
	return tidemarkv1connect.NewClusterServiceClient(n.client(), n.url())
}

// send produces values as one batch through a node.
func (n *routeNode) send(topic string, partition int32, values ...string) (*tidemarkv1.ProduceResponse, error) {
	return n.produce().Produce(n.w.ctx, &tidemarkv1.ProduceRequest{Topic: topic, Partition: partition, Batch: oneBatch(values...)})
}

func (n *routeNode) mustSend(topic string, partition int32, values ...string) *tidemarkv1.ProduceResponse {
	n.w.t.Helper()
	answer, err := n.send(topic, partition, values...)
	if err != nil {
		n.w.t.Fatalf("produce to %s/%d through %s: %v", topic, partition, n.id, err)
	}
	return answer
}

// read reads a whole topic through a node, and checks that offsets join; by partition.
func (n *routeNode) read(topic string) map[int32][]string {
	n.w.t.Helper()
	stream, err := n.consume().Consume(n.w.ctx, &tidemarkv1.ConsumeRequest{Topic: topic, From: &tidemarkv1.ConsumeRequest_Start{Start: true}, UntilEnd: true})
	if err != nil {
		n.w.t.Fatal(err)
	}
	out := make(map[int32][]string)
	for stream.Receive() {
		if b := stream.Msg().GetBatches(); b != nil {
			out[b.GetPartition()] = append(out[b.GetPartition()], valuesOf(n.w.t, b, int64(len(out[b.GetPartition()])))...)
		}
	}
	if err := stream.Err(); err != nil {
		n.w.t.Fatalf("consume %s through %s: %v", topic, n.id, err)
	}
	return out
}

// valuesOf decodes a piece of a log; its first record has the offset from.
func valuesOf(t *testing.T, b *tidemarkv1.PartitionBatches, from int64) []string {
	t.Helper()
	var out []string
	for rest := b.GetBatches(); len(rest) > 0; {
		batch, after, err := record.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		rest = after
		for r, err := range batch.Records(record.DefaultLimits()) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Offset != from {
				t.Fatalf("partition %d: offset %d where %d was due", b.GetPartition(), r.Offset, from)
			}
			from++
			out = append(out, string(r.Value))
		}
	}
	return out
}

// wireReason is the reason that a call failed with.
func wireReason(err error) (Reason, *Error) {
	e := remoteError(err)
	if e == nil {
		return "", &Error{Message: fmt.Sprint(err)}
	}
	return e.Reason, e
}

// cutKV is the way from one node to etcd, which can be cut.
type cutKV struct {
	meta.KV

	cut atomic.Bool
}

var errCut = fmt.Errorf("%w: the way is cut", meta.ErrUnavailable)

func (c *cutKV) Txn(ctx context.Context, txn meta.Txn) (meta.TxnResult, error) {
	if c.cut.Load() {
		return meta.TxnResult{}, errCut
	}
	return c.KV.Txn(ctx, txn)
}

func (c *cutKV) Get(ctx context.Context, key string) (*meta.KeyValue, meta.Revision, error) {
	if c.cut.Load() {
		return nil, 0, errCut
	}
	return c.KV.Get(ctx, key)
}

func (c *cutKV) Range(ctx context.Context, prefix string, at meta.Revision) ([]meta.KeyValue, meta.Revision, error) {
	if c.cut.Load() {
		return nil, 0, errCut
	}
	return c.KV.Range(ctx, prefix, at)
}

func (c *cutKV) KeepAlive(ctx context.Context, lease meta.LeaseID) (time.Duration, error) {
	if c.cut.Load() {
		return 0, errCut
	}
	return c.KV.KeepAlive(ctx, lease)
}

func (c *cutKV) Grant(ctx context.Context, ttl time.Duration) (meta.LeaseID, error) {
	if c.cut.Load() {
		return 0, errCut
	}
	return c.KV.Grant(ctx, ttl)
}

func (c *cutKV) Revoke(ctx context.Context, lease meta.LeaseID) error {
	if c.cut.Load() {
		return errCut
	}
	return c.KV.Revoke(ctx, lease)
}

// pipeNet is a network of pipes.
type pipeNet struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
}

func (p *pipeNet) listen(address string) *pipeListener {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &pipeListener{address: address, incoming: make(chan net.Conn), closed: make(chan struct{})}
	p.listeners[address] = l
	return l
}

func (p *pipeNet) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.listeners {
		l.cut()
	}
}

func (p *pipeNet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listeners[address]
	p.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	if l == nil {
		return nil, refused
	}
	near, far := net.Pipe()
	select {
	case l.incoming <- far:
		l.keep(near, far)
		return near, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipeListener accepts what dials its address.
type pipeListener struct {
	address  string
	incoming chan net.Conn
	once     sync.Once
	closed   chan struct{}

	mu    sync.Mutex
	conns []net.Conn
}

func (l *pipeListener) keep(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conns...)
}

// cut ends every connection, and refuses others.
func (l *pipeListener) cut() {
	_ = l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.address) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

package kafka

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// fakeCluster is a cluster in which everything is as a test says, for what a real one is too small or too well for. Once it is served, a test changes it
// by now.
type fakeCluster struct {
	ingest.ClusterIndex // nil: what is not here is not asked for

	nodes []meta.NodeInfo

	mu     sync.Mutex
	topics map[string]meta.Topic
	leader meta.NodeID // of every partition
	noRoom bool
	away   error // why there is no index
	looks  int   // at etcd
	// find and create take the place of the router's; nil is that nothing more is found, and that nothing can be made.
	find   func(name string) (meta.Topic, error)
	create func(ctx context.Context, name string, partitions int32, ifNotExists bool) (meta.Topic, bool, error)
}

// now makes the cluster another.
func (f *fakeCluster) now(change func(*fakeCluster)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// looked is how often etcd was asked.
func (f *fakeCluster) looked() (looks int) {
	f.now(func(f *fakeCluster) { looks, f.looks = f.looks, 0 })
	return looks
}

func (f *fakeCluster) Index() (index ingest.ClusterIndex, err error) {
	f.now(func(f *fakeCluster) { err = f.away })
	return f, err
}

func (f *fakeCluster) ClusterID(context.Context) (string, error) {
	return "", errors.New("etcd is away")
}
func (f *fakeCluster) Nodes() []meta.NodeInfo     { return f.nodes }
func (f *fakeCluster) Hole(meta.Partition) error  { return nil }
func (f *fakeCluster) Start(meta.Partition) int64 { return 0 }

func (f *fakeCluster) Released(meta.NodeID, meta.Partition, meta.Epoch) bool { return false }

func (f *fakeCluster) Room(int32) (room bool) {
	f.now(func(f *fakeCluster) { room = !f.noRoom })
	return room
}

func (f *fakeCluster) Node(id meta.NodeID) (meta.NodeInfo, bool) {
	for _, n := range f.nodes {
		if n.ID == id {
			return n, true
		}
	}
	return meta.NodeInfo{}, false
}

func (f *fakeCluster) Leader(meta.Partition) (l meta.Leadership, ok bool) {
	f.now(func(f *fakeCluster) { l = meta.Leadership{Node: f.leader, Epoch: 7} })
	return l, l.Node != ""
}

func (f *fakeCluster) Topic(name string) (t meta.Topic, ok bool) {
	f.now(func(f *fakeCluster) { t, ok = f.topics[name] })
	return t, ok
}

func (f *fakeCluster) TopicByID(id meta.TopicID) (meta.Topic, bool) {
	for _, t := range f.Topics() {
		if t.ID == id {
			return t, true
		}
	}
	return meta.Topic{}, false
}

func (f *fakeCluster) Topics() (out []meta.Topic) {
	f.now(func(f *fakeCluster) { out = slices.Collect(maps.Values(f.topics)) })
	return out
}

// add puts a topic into the index.
func (f *fakeCluster) add(name string, partitions int32) (t meta.Topic) {
	f.now(func(f *fakeCluster) {
		if f.topics == nil {
			f.topics = make(map[string]meta.Topic)
		}
		t = meta.Topic{Name: name, ID: meta.TopicID{byte(len(f.topics) + 1)}, Partitions: partitions, Config: meta.DefaultTopicConfig()}
		f.topics[name] = t
	})
	return t
}

func (f *fakeCluster) FindTopic(_ context.Context, name string) (meta.Topic, error) {
	var find func(string) (meta.Topic, error)
	f.now(func(f *fakeCluster) {
		f.looks++
		find = f.find
	})
	if find != nil {
		return find(name)
	}
	if t, ok := f.Topic(name); ok {
		return t, nil
	}
	return meta.Topic{}, ingest.Errorf(ingest.ReasonUnknownTopic, "there is no topic %q", name)
}

func (f *fakeCluster) CreateTopic(ctx context.Context, name string, partitions int32, _ map[string]string, ifNotExists bool) (meta.Topic, bool, error) {
	var create func(context.Context, string, int32, bool) (meta.Topic, bool, error)
	f.now(func(f *fakeCluster) { create = f.create })
	if create != nil {
		return create(ctx, name, partitions, ifNotExists)
	}
	return meta.Topic{}, false, ingest.Errorf(ingest.ReasonUnavailable, "etcd is away")
}

func (f *fakeCluster) UpdateTopic(context.Context, string, map[string]string) (meta.Topic, error) {
	return meta.Topic{}, ingest.Errorf(ingest.ReasonUnavailable, "etcd is away")
}

func (f *fakeCluster) AddPartitions(_ context.Context, name string, total int32) (meta.Topic, error) {
	return meta.Topic{}, ingest.Errorf(ingest.ReasonInvalidTopic, "the nodes have no room")
}

func (f *fakeCluster) DeleteTopic(context.Context, string) error {
	return ingest.Errorf(ingest.ReasonShuttingDown, "the node stops")
}

// serveFake serves a fake cluster as one of its nodes, and dials it.
func serveFake(t *testing.T, self meta.NodeID, cluster *fakeCluster, change ...func(*Config)) *wire {
	t.Helper()
	_, dial := fakeServer(t, self, cluster, change...)
	return dial()
}

// fakeServer serves a fake cluster as one of its nodes.
func fakeServer(t *testing.T, self meta.NodeID, cluster *fakeCluster, change ...func(*Config)) (s *Server, dial func() *wire) {
	t.Helper()
	config := Config{
		Self: self, Log: func() (Log, error) { return nil, errors.New("there is no log") }, Cluster: cluster,
		Groups: (*ingest.Groups)(nil), Clock: clock.System(), Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx}
	return s, func() *wire { return w.dial(&worldNode{id: self, address: l.Addr().String()}) }
}

package nemesis

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
)

// DefaultNodes is how many nodes a cluster has unless told otherwise.
const DefaultNodes = 3

const (
	clusterName = "nemesis"
	bucket      = "tidemark"
	accessKey   = "tidemark"
	secretKey   = "tidemark-nemesis" // for loopback only, where whoever can reach the port can read the files as well
)

// LeaseTTL is how long a node may be silent before the cluster takes it for dead, as `tidemark serve` has it.
const LeaseTTL = 6 * time.Second

// Options say what a cluster is made of. The zero value is three nodes and three members of etcd.
type Options struct {
	Nodes int // 0 is DefaultNodes
	Etcds int // members of etcd; 0 is 3
	// Binaries are built when they are missing. A test that starts several clusters builds them once.
	Binaries *Binaries
	Race     bool // build tidemark with the race detector
	// Kafka has the nodes serve Kafka's clients, who come by links of their own.
	Kafka bool
	// NodeArgs are further flags of `tidemark serve`.
	NodeArgs []string
	// SmallDisk is the size in bytes of a file system of its own for the first node's data, so that it can be filled; 0 is none.
	// Where the system does not let us make one, the reason is in Cluster.NoSmallDisk.
	SmallDisk int64
	// Leaders counts the partitions that each node leads, by node id. Nil asks the nodes about every topic.
	Leaders func(ctx context.Context, c *Cluster) (map[string]int, error)
	// Patience is how long anything that is waited for may take; 0 is 1 minute.
	Patience time.Duration
}

type pair struct{ from, to int }

// Cluster is nodes, etcd and an object store as processes on this machine, with a link between any two that talk.
// It ends with its test.
type Cluster struct {
	options Options
	dir     string
	spawner *spawner
	links   *links
	gate    *Gate
	minio   *process
	probe   *http.Client
	small   *smallDisk
	// NoSmallDisk says why there is none though it was asked for.
	NoSmallDisk error

	etcd       []*Etcd
	etcdClient *clientv3.Client
	nodes      []*Node
	peerLinks  map[pair]*Link // between members of etcd, by index

	mu        sync.Mutex
	processes []*process
	opened    []*Link
	deaths    []string
	said      []string // names of the files in which Kafka's clients tell what they do
}

// StartCluster starts everything and waits until each node is ready. When the test ends, in whatever way, so does the cluster.
func StartCluster(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	if o.Nodes == 0 {
		o.Nodes = DefaultNodes
	}
	if o.Etcds == 0 {
		o.Etcds = 3
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Binaries == nil {
		b := Build(tb, o.Race)
		o.Binaries = &b
	}
	if err := o.Binaries.validate(); err != nil {
		tb.Fatalf("start a cluster: %v", err)
	}
	c := &Cluster{
		options: o, dir: tb.TempDir(), spawner: newSpawner(), links: newLinks(), peerLinks: make(map[pair]*Link),
		probe: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second},
	}
	tb.Cleanup(c.close)
	if err := c.start(tb.Context()); err != nil {
		tb.Fatalf("start a cluster: %v\n%s", err, c.Logs(2000))
	}
	return c
}

func (c *Cluster) start(ctx context.Context) error {
	if c.options.SmallDisk > 0 {
		if c.small, c.NoSmallDisk = mountSmallDisk(filepath.Join(c.dir, "small"), 0, c.options.SmallDisk, c.spawner); c.NoSmallDisk != nil {
			c.small = nil
		}
	}
	s3, err := ports.address(ctx)
	if err != nil {
		return err
	}
	c.minio = c.newProcess("minio", c.options.Binaries.MinIO,
		[]string{"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey, "MINIO_BROWSER=off"},
		"server", "--quiet", "--address", s3, filepath.Join(c.dir, "minio"))
	if err := c.minio.start(); err != nil {
		return err
	}
	if err := c.startEtcd(ctx, c.options.Etcds); err != nil {
		return err
	}
	maker := exec.CommandContext(ctx, c.options.Binaries.MakeBucket, "http://"+s3, bucket)
	maker.Env = append(maker.Environ(), credentials()...)
	if text, err := maker.CombinedOutput(); err != nil {
		return fmt.Errorf("make the bucket: %w\n%s", err, text)
	}
	if c.gate, err = openGate(ctx, "http://"+s3); err != nil {
		return err
	}
	for i := range c.options.Nodes {
		if err := c.startNode(ctx, i); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func credentials() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey}
}

func (c *Cluster) newProcess(name, path string, env []string, args ...string) *process {
	p := &process{name: name, path: path, args: args, env: env, logName: filepath.Join(c.dir, name+".log"), spawner: c.spawner, died: c.died}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes = append(c.processes, p)
	return p
}

func (c *Cluster) died(p *process, how string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaths = append(c.deaths, fmt.Sprintf("%s ended by itself (%s); the end of its log:\n%s", p.name, how, p.tail(1500)))
}

// Crashes tells what no process may do: ends that nobody asked for, panics, data races. Each is text for people.
func (c *Cluster) Crashes() []string {
	c.mu.Lock()
	processes, out := c.processes, slices.Clone(c.deaths)
	c.mu.Unlock()
	for _, p := range processes {
		out = append(out, p.crashes()...)
	}
	return out
}

func (c *Cluster) openLink(ctx context.Context, name, upstream string) (*Link, error) {
	link, err := c.links.open(ctx, name, upstream)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = append(c.opened, link)
	return link, nil
}

// close ends everything: nodes first, so that their last words are about the test and not about its end.
func (c *Cluster) close() {
	c.mu.Lock()
	processes, opened := c.processes, c.opened
	c.mu.Unlock()
	for _, p := range slices.Backward(processes) {
		p.kill()
	}
	if c.etcdClient != nil {
		_ = c.etcdClient.Close()
	}
	for _, e := range c.etcd {
		if e.router != nil {
			e.router.close()
		}
	}
	if c.gate != nil {
		c.gate.close()
	}
	for _, link := range opened {
		link.close()
	}
	c.spawner.close()
	if c.small != nil {
		c.small.unmount()
	}
}

// Nodes returns the nodes, n1 first.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Gate is in front of the object store.
func (c *Cluster) Gate() *Gate { return c.gate }

// URLs are where clients reach the nodes.
func (c *Cluster) URLs() []string {
	var out []string
	for _, n := range c.nodes {
		out = append(out, n.URL())
	}
	return out
}

// Links returns every link.
func (c *Cluster) Links() []*Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened
}

// NewClient makes a client that sends everything to one node over the clients' link. The caller closes it.
func (c *Cluster) NewClient(n *Node) (*client.Client, error) {
	made, err := client.New(client.Config{Server: n.URL(), DisableDirect: true})
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", n.id, err)
	}
	return made, nil
}

// NewClusterClient makes a client that begins at a node, knows the clients' links to the others too, and goes straight to
// leaders, over the links that nodes advertise. The caller closes it.
func (c *Cluster) NewClusterClient(n *Node) (*client.Client, error) {
	servers := []string{n.URL()}
	for _, other := range c.nodes {
		if other != n {
			servers = append(servers, other.URL())
		}
	}
	made, err := client.New(client.Config{Server: strings.Join(servers, ",")})
	if err != nil {
		return nil, fmt.Errorf("make a client of all nodes: %w", err)
	}
	return made, nil
}

// Leaders counts the partitions that each node leads, by node id.
func (c *Cluster) Leaders(ctx context.Context) (map[string]int, error) {
	if c.options.Leaders != nil {
		return c.options.Leaders(ctx, c)
	}
	var failed []error
	for _, n := range c.nodes {
		if !n.process.running() || n.process.isPaused() {
			continue
		}
		leaders, err := c.leadersAt(ctx, n)
		if err == nil {
			return leaders, nil
		}
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("find the leaders: %w", errors.Join(failed...))
}

func (c *Cluster) leadersAt(ctx context.Context, n *Node) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	asked, err := c.NewClient(n)
	if err != nil {
		return nil, err
	}
	defer asked.Close()
	topics, err := asked.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]int)
	for _, topic := range topics {
		_, partitions, err := asked.GetTopic(ctx, topic.GetName())
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			if p.GetLeader() != "" {
				out[p.GetLeader()]++
			}
		}
	}
	return out, nil
}

// Heal ends every fault of links and store, resumes what is paused and starts what does not run. It does not wait.
func (c *Cluster) Heal() error {
	var failed []error
	c.gate.Set(GatePasses)
	for _, link := range c.Links() {
		failed = append(failed, link.Heal())
	}
	c.mu.Lock()
	processes := c.processes
	c.mu.Unlock()
	for _, p := range processes {
		failed = append(failed, p.resume())
		if !p.running() {
			failed = append(failed, p.start())
		}
	}
	if c.small != nil {
		failed = append(failed, c.small.free())
	}
	return errors.Join(failed...)
}

// Ready waits until every node is.
func (c *Cluster) Ready(ctx context.Context) error {
	for _, n := range c.nodes {
		if err := n.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Logs are the ends of everybody's logs, at most limit bytes each.
func (c *Cluster) Logs(limit int) string {
	c.mu.Lock()
	processes := c.processes
	c.mu.Unlock()
	var out strings.Builder
	for _, p := range processes {
		fmt.Fprintf(&out, "--- %s\n%s\n", p.name, p.tail(limit))
	}
	return out.String()
}

// KeepLogs copies everybody's log into a directory that outlives the test.
func (c *Cluster) KeepLogs(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("keep the logs: %w", err)
	}
	c.mu.Lock()
	names := slices.Clone(c.said)
	for _, p := range c.processes {
		names = append(names, p.logName)
	}
	c.mu.Unlock()
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it never started
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o600); err != nil {
			return fmt.Errorf("keep the logs: %w", err)
		}
	}
	return nil
}

// until tries until it succeeds, for the cluster's patience, and then tells the last failure.
func (c *Cluster) until(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.Patience)
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, 5*time.Second)
		err := try(attempt)
		end()
		if err == nil {
			return nil
		}
		if !wait(ctx, 50*time.Millisecond) {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
	}
}

// wait waits for d, and tells whether ctx let it.
func wait(ctx context.Context, d time.Duration) bool {
	timer := clock.System().NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

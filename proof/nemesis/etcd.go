package nemesis

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Etcd is one member of the cluster's etcd.
type Etcd struct {
	index   int // from 0
	name    string
	client  string // HOST:PORT for clients
	peer    string // HOST:PORT for the other members
	router  *router
	process *process
}

// Name is etcd1, etcd2, and so on.
func (e *Etcd) Name() string { return e.name }

// Running tells whether the member has a process, be it paused.
func (e *Etcd) Running() bool { return e.process.running() }

// Kill ends the member as a crash would.
func (e *Etcd) Kill() { e.process.kill() }

// Start starts the member again after Kill. It does not wait until it serves.
func (e *Etcd) Start() error { return e.process.start() }

// Pause stops the member without its noticing (SIGSTOP); Resume lets it go on.
func (e *Etcd) Pause() error { return e.process.pause() }

// Resume undoes Pause.
func (e *Etcd) Resume() error { return e.process.resume() }

// advertised is the URL of a member as etcd knows it. Nothing listens there, see doc.go.
func advertised(i int) string { return "192.0.2." + strconv.Itoa(i+1) + ":2380" }

// startEtcd starts n members with a link between any two of them.
func (c *Cluster) startEtcd(ctx context.Context, n int) error {
	var initial []string
	for i := range n {
		e := &Etcd{index: i, name: "etcd" + strconv.Itoa(i+1)}
		for _, address := range []*string{&e.client, &e.peer} {
			var err error
			if *address, err = ports.address(ctx); err != nil {
				return err
			}
		}
		c.etcd = append(c.etcd, e)
		initial = append(initial, e.name+"=http://"+advertised(i))
	}
	for _, from := range c.etcd {
		routes := make(map[string]string)
		for _, to := range c.etcd {
			if from == to {
				continue
			}
			link, err := c.openLink(ctx, from.name+"→"+to.name, to.peer)
			if err != nil {
				return err
			}
			c.peerLinks[pair{from.index, to.index}] = link
			routes[advertised(to.index)] = link.Address()
		}
		var err error
		if from.router, err = newRouter(ctx, routes); err != nil {
			return err
		}
		proxy := "socks5://" + from.router.address()
		from.process = c.newProcess(from.name, c.options.Binaries.Etcd,
			[]string{"HTTP_PROXY=" + proxy, "http_proxy=" + proxy, "NO_PROXY=", "no_proxy="},
			"--name", from.name, "--data-dir", filepath.Join(c.dir, from.name), "--log-level", "warn",
			"--listen-client-urls", "http://"+from.client, "--advertise-client-urls", "http://"+from.client,
			"--listen-peer-urls", "http://"+from.peer, "--initial-advertise-peer-urls", "http://"+advertised(from.index),
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", "nemesis")
		if err := from.process.start(); err != nil {
			return err
		}
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: c.etcdURLs(), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return fmt.Errorf("make an etcd client: %w", err)
	}
	c.etcdClient = client
	return c.until(ctx, "etcd has a leader", func(ctx context.Context) error {
		_, err := client.Get(ctx, "nothing")
		return err
	})
}

func (c *Cluster) etcdURLs() []string {
	var out []string
	for _, e := range c.etcd {
		out = append(out, "http://"+e.client)
	}
	return out
}

// Etcd returns the members.
func (c *Cluster) Etcd() []*Etcd { return c.etcd }

// EtcdClient reaches every member directly, past all links.
func (c *Cluster) EtcdClient() *clientv3.Client { return c.etcdClient }

// EtcdLeader asks the members who leads them.
func (c *Cluster) EtcdLeader(ctx context.Context) (*Etcd, error) {
	var failed []error
	for _, e := range c.etcd {
		if !e.process.running() || e.process.isPaused() {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		status, err := c.etcdClient.Status(attempt, "http://"+e.client)
		cancel()
		switch {
		case err != nil:
			failed = append(failed, err)
		case status.Leader != 0 && status.Leader == status.Header.GetMemberId():
			return e, nil
		}
	}
	return nil, fmt.Errorf("find etcd's leader: no member says that it leads: %w", errors.Join(failed...))
}

package nemesis

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Node is one `tidemark serve`. Its methods may be called from any goroutine.
type Node struct {
	cluster *Cluster
	id      string
	http    string // HOST:PORT where it listens
	process *process

	toEtcd  []*Link // one for each member
	toStore *Link
	peers   *Link // other nodes come this way: it advertises it
	clients *Link
	kafka   *Link // Kafka's clients come this way: it advertises it; nil when there are none
}

// ID is its --node-id: n1, n2, and so on.
func (n *Node) ID() string { return n.id }

// URL is where clients reach the node, through their link.
func (n *Node) URL() string { return n.clients.URL() }

// DirectURL reaches the node past all links.
func (n *Node) DirectURL() string { return "http://" + n.http }

// AdvertisedURL is what the node tells others about itself.
func (n *Node) AdvertisedURL() string { return n.peers.URL() }

// Running tells whether the node has a process, be it paused.
func (n *Node) Running() bool { return n.process.running() }

// Kill ends the node as a crash would (SIGKILL).
func (n *Node) Kill() { n.process.kill() }

// stopPatience is how long a node may take to end in good order.
const stopPatience = 45 * time.Second

// Stop asks the node to end (SIGTERM) and waits for it. One that takes longer than 45 s is killed, and that is an error.
func (n *Node) Stop(ctx context.Context) error { return n.process.stop(ctx, stopPatience) }

// Launch starts the node after Kill or Stop, and does not wait until it serves.
func (n *Node) Launch() error { return n.process.start() }

// Start is Launch, and waits until the node is ready.
func (n *Node) Start(ctx context.Context) error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.Ready(ctx)
}

// Pause stops the node without its noticing (SIGSTOP).
func (n *Node) Pause() error { return n.process.pause() }

// Resume undoes Pause (SIGCONT).
func (n *Node) Resume() error { return n.process.resume() }

// Ready waits until the node says that it serves (/readyz).
func (n *Node) Ready(ctx context.Context) error {
	return n.cluster.until(ctx, n.id+" is ready", func(ctx context.Context) error {
		if !n.process.running() {
			return fmt.Errorf("%s does not run; the end of its log:\n%s", n.id, n.process.tail(2000))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.DirectURL()+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		answer, err := n.cluster.probe.Do(req)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000)) // what came of it
			return fmt.Errorf("%s answers %s: %s", n.id, answer.Status, strings.TrimSpace(string(text)))
		}
		return nil
	})
}

// Log is the end of what the node printed in all its lives, at most limit bytes.
func (n *Node) Log(limit int) string { return n.process.tail(limit) }

// EtcdLinks are the node's links to etcd, one for each member.
func (n *Node) EtcdLinks() []*Link { return n.toEtcd }

// StoreLink is the node's link to the object store.
func (n *Node) StoreLink() *Link { return n.toStore }

// PeerLink is how other nodes reach the node.
func (n *Node) PeerLink() *Link { return n.peers }

// ClientLink is how clients reach the node.
func (n *Node) ClientLink() *Link { return n.clients }

// clientLinks are how clients of all kinds reach the node.
func (n *Node) clientLinks() []*Link {
	if n.kafka == nil {
		return []*Link{n.clients}
	}
	return []*Link{n.clients, n.kafka}
}

// Drain asks another node to move everything off this one, and waits until nothing is left to move.
func (n *Node) Drain(ctx context.Context) error {
	return n.cluster.until(ctx, n.id+" is drained", func(ctx context.Context) error {
		left, err := n.mark(ctx, false)
		if err == nil && left > 0 {
			err = fmt.Errorf("%s still leads %d partitions", n.id, left)
		}
		return err
	})
}

// Undrain lets the node lead again.
func (n *Node) Undrain(ctx context.Context) error {
	return n.cluster.until(ctx, n.id+" may lead again", func(ctx context.Context) error {
		_, err := n.mark(ctx, true)
		return err
	})
}

func (n *Node) mark(ctx context.Context, cancel bool) (left int32, err error) {
	c, err := n.cluster.NewClusterClient(n)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.DrainNode(ctx, n.id, cancel)
}

// startNode starts node number i, from 0, and does not wait for it.
func (c *Cluster) startNode(ctx context.Context, i int) error {
	n := &Node{cluster: c, id: "n" + strconv.Itoa(i+1)}
	var err error
	if n.http, err = ports.address(ctx); err != nil {
		return err
	}
	var etcd []string
	for _, e := range c.etcd {
		link, err := c.openLink(ctx, n.id+"→"+e.name, e.client)
		if err != nil {
			return err
		}
		n.toEtcd = append(n.toEtcd, link)
		etcd = append(etcd, link.URL())
	}
	if n.toStore, err = c.openLink(ctx, n.id+"→store", c.gate.address()); err != nil {
		return err
	}
	if n.peers, err = c.openLink(ctx, "nodes→"+n.id, n.http); err != nil {
		return err
	}
	if n.clients, err = c.openLink(ctx, "client→"+n.id, n.http); err != nil {
		return err
	}
	data := filepath.Join(c.dir, n.id)
	if c.small != nil && c.small.node == i {
		data = c.small.dir
	}
	args := []string{
		"serve", "--data-dir", data, "--node-id", n.id, "--cluster", clusterName,
		"--etcd", strings.Join(etcd, ","), "--store", "s3://" + bucket + "/data", "--s3-endpoint", n.toStore.URL(),
		"--http", n.http, "--advertise", n.AdvertisedURL(),
	}
	kafka, err := n.openKafka(ctx)
	if err != nil {
		return err
	}
	args = append(args, kafka...)
	n.process = c.newProcess(n.id, c.options.Binaries.Tidemark, credentials(), append(args, c.options.NodeArgs...)...)
	c.nodes = append(c.nodes, n)
	return n.process.start()
}

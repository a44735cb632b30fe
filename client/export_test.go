package client

import "time"

// SetPings shortens how soon a node that hangs is noticed. It is for before the first call.
func SetPings(c *Client, every, timeout time.Duration) {
	c.owned.HTTP2.SendPingTimeout, c.owned.HTTP2.PingTimeout = every, timeout
}

// Senders tells how many nodes a producer has a sender for.
func Senders(p *Producer) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.senders)
}

// Follow is follow.
func Follow(c *Client, topic string) (release func()) { return c.follow(topic) }

// Leader is the URL of leader, empty when it is not known or not reachable.
func Leader(c *Client, topic string, partition int32) string {
	if e, ok := c.leader(topic, partition); ok {
		return e.url
	}
	return ""
}

// Any is the URL of any.
func Any(c *Client) string { return c.any().url }

// Changed is changed.
func Changed(c *Client) <-chan struct{} { return c.changed() }

// Partitions is partitions.
func Partitions(c *Client, topic string) (n int32, id string, ok bool) { return c.partitions(topic) }

package main

import (
	"context"
	"strings"

	"github.com/tidemark-io/tidemark/meta"
)

// etcd checks the metadata store: one write, one watch and one lease as a node makes them, and its health.
func (c *checkup) etcd(ctx context.Context, endpoints []string, token string) {
	where := strings.Join(endpoints, ",")
	var kv meta.KV
	opened := c.check("etcd", "open", "write --etcd as http://host:port[,http://host:port]", func() (string, error) {
		client, err := meta.DialEtcd(endpoints)
		if err != nil {
			return "", err
		}
		context.AfterFunc(ctx, func() { _ = client.Close() }) // the probe's connection: nothing depends on its end
		kv = meta.NewEtcd(client)
		return where, nil
	})
	if opened {
		c.metadata(ctx, kv, "/tidemark-probe/"+token)
	}
}

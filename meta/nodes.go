package meta

import (
	"context"
	"fmt"
	"strings"
)

// Nodes lists the nodes that are alive, by id, as they are at some moment of the call.
func (c *Client) Nodes(ctx context.Context) ([]NodeInfo, error) {
	kvs, _, err := c.kv.Range(ctx, c.keys.prefix+dirNodes, 0)
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	out := make([]NodeInfo, 0, len(kvs))
	for _, kv := range kvs {
		n, err := decodeNode(NodeID(strings.TrimPrefix(kv.Key, c.keys.prefix+dirNodes)), kv)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

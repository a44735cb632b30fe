package client

import (
	"context"
	"net"
)

// Dial makes the client's connections by f.
func (c *Client) Dial(f func(ctx context.Context, network, address string) (net.Conn, error)) {
	c.owned.DialContext = f
}

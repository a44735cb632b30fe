package nemesis

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
)

// ports gives addresses that nobody listens on. A process that is killed must find its port free when it starts again, so they
// lie below the range from which systems take ports for outgoing connections (32768 on Linux). Every process begins its search
// elsewhere; two at once still may want the same one, and then a server says at its start that the port is taken.
var ports = &portRange{next: firstPort + os.Getpid()*97%(lastPort-firstPort)}

const (
	firstPort = 10_000
	lastPort  = 32_000
)

type portRange struct {
	mu   sync.Mutex
	next int
}

// address returns a loopback address, HOST:PORT, and never the same one twice before all have been given.
func (p *portRange) address(ctx context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lc net.ListenConfig
	for range lastPort - firstPort {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.next))
		if p.next++; p.next >= lastPort {
			p.next = firstPort
		}
		l, err := lc.Listen(ctx, "tcp4", address)
		if err != nil {
			continue // taken
		}
		if err := l.Close(); err != nil {
			return "", fmt.Errorf("try port %s: %w", address, err)
		}
		return address, nil
	}
	return "", fmt.Errorf("find a free port on 127.0.0.1: none from %d to %d", firstPort, lastPort)
}

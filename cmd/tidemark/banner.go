package main

import (
	"fmt"
	"io"
)

// writeBanner tells where everything is, with lines to paste.
func writeBanner(w io.Writer, p *nodeProcess) error {
	url := p.URL()
	server := ""
	if url != defaultServer {
		server = " --server " + url
	}
	topic, field := "demo", "id"
	first := fmt.Sprintf("tidemark%s topic create demo --partitions 4\n    echo '{\"id\":\"a\",\"n\":1}' | tidemark%s produce demo --key-field id", server, server)
	if p.cfg.demo {
		topic, field = demoOrders, "customer"
		first = fmt.Sprintf("tidemark%s topic describe %s", server, topic)
	}
	_, err := fmt.Fprintf(w, `
  Tidemark %s is up, node %s
    Connect, gRPC, JSON   %s
    metrics, probes       %s/metrics /readyz /healthz
    data                  %s
    object store          %s

  Paste into another terminal:
    %s
    tidemark%s consume %s -n 3
    curl -d '{"%s":"c1","amount":7}' '%s/v1/topics/%s/records?key_field=%s'

  Ctrl-C stops; the data stays.

`, readVersion().Version, p.id.node, url, url, p.cfg.dataDir, p.cfg.storeURL(), first, server, topic, field, url, topic, field)
	return err
}

// defaultServer is where the tools look when they are not told.
const defaultServer = "http://127.0.0.1:8640"

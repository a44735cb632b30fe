package main

import (
	"fmt"
	"io"
	"os"
)

// writeBanner tells where everything is, with lines to paste.
func writeBanner(w io.Writer, p *nodeProcess) error {
	url := p.URL()
	command := os.Args[0] // as it was called: what was not found on the PATH this time will not be found there the next
	server := ""
	if url != defaultServer {
		server = " --server " + url
	}
	topic, field := "demo", "id"
	kcat := `echo '{"id":"k","n":2}' | kcat -b %[1]s -t demo -P
    kcat -b %[1]s -t demo -C -e`
	ask := "SELECT id, sum(n) AS n FROM demo GROUP BY id"
	first := fmt.Sprintf("%s%s topic create demo --partitions 4\n    echo '{\"id\":\"a\",\"n\":1}' | %s%s produce demo --key-field id", command, server, command, server)
	if p.cfg.demo {
		topic, field = demoOrders, "customer"
		kcat = `kcat -b %[1]s -t orders -C -o beginning -c 3`
		ask = "SELECT region, count(*) AS orders, bar(sum(amount), 0, max(sum(amount)) OVER (), 30) AS revenue FROM orders GROUP BY region ORDER BY sum(amount) DESC"
		first = fmt.Sprintf("%s%s topic describe %s", command, server, topic)
	}
	endpoint := kafkaOff
	if address := p.kafkaAddress(); address != "" {
		endpoint = address
		kcat = "\n    " + fmt.Sprintf(kcat, p.advertisedKafka())
	} else {
		kcat = ""
	}
	_, err := fmt.Fprintf(w, `
  Tidemark %s is up, node %s
    Connect, gRPC, JSON   %s
    Kafka                 %s
    SQL                   %s/v1/sql
    metrics, probes       %s/metrics /readyz /healthz
    data                  %s
    object store          %s

  Paste into another terminal:
    %s
    %s%s consume %s -n 3
    %s%s sql "%s"
    curl -d '{"%s":"c1","amount":7}' '%s/v1/topics/%s/records?key_field=%s'%s

  Ctrl-C stops; the data stays.

`, readVersion().Version, p.id.node, url, endpoint, url, url, p.cfg.dataDir, p.cfg.storeURL(), first, command, server, topic, command, server, ask, field, url, topic, field, kcat)
	return err
}

// defaultServer is where the tools look when they are not told.
const defaultServer = "http://127.0.0.1:8640"

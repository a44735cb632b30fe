//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta/metafake"
	"github.com/tidemark-io/tidemark/record"
)

// queryConfig has both roles.
func queryConfig(dir string) serverConfig {
	c := devConfig(dir)
	c.roles = []string{roleIngest, roleQuery}
	c.tailMemory, c.queryMemory, c.querySpace, c.queryTimeout = 64<<20, 256<<20, 1<<30, time.Minute
	return c
}

// count asks one process how many rows a topic has, and how many of them a condition holds for.
func count(t *testing.T, server, sql string, o client.QueryOptions) (rows int64, position []client.Position) {
	t.Helper()
	c, err := client.New(client.Config{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Query(t.Context(), sql, o)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer answer.Close()
	for {
		rec, err := answer.Next()
		if errors.Is(err, io.EOF) {
			return rows, answer.Position()
		}
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		rows += rec.Column(0).(*array.Int64).Value(0)
		rec.Release()
	}
}

func produceTo(t *testing.T, server, topic string, values ...string) client.Position {
	t.Helper()
	c, err := client.New(client.Config{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.NewProducer(client.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if _, err := p.ProduceSync(t.Context(), topic, record.Record{Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	position := client.Position{Topic: topic, Offsets: p.Position(topic)}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return position
}

func createTopic(t *testing.T, server, name string, partitions int32, config map[string]string) {
	t.Helper()
	c, err := client.New(client.Config{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.CreateTopic(t.Context(), name, partitions, config, false); err != nil {
		t.Fatal(err)
	}
}

// What was acknowledged is in the next answer, whatever the topic's durability and however small the wait between the two; also after a
// restart, and after the topic was made anew under the same name.
func TestAcknowledgedIsAnswered(t *testing.T) {
	dir := t.TempDir()
	p, err := openNode(t.Context(), queryConfig(dir), testDeps(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	waitNode(t, p)
	for _, durability := range []string{"object", "disk"} {
		createTopic(t, p.URL(), durability, 3, map[string]string{"durability": durability})
		for n := range 30 {
			position := produceTo(t, p.URL(), durability, fmt.Sprintf(`{"n":%d}`, n))
			got, covered := count(t, p.URL(), "SELECT count(*) FROM "+durability+" WHERE n IS NOT NULL", client.QueryOptions{})
			if got != int64(n+1) || len(covered) != 1 {
				t.Fatalf("%s: %d records were acknowledged, up to %s, and %d are in the answer, which covers %v", durability, n+1, position, got, covered)
			}
			for partition, offset := range position.Offsets {
				if covered[0].Offsets[partition] < offset {
					t.Errorf("%s: the answer covers %v, acknowledged was %s", durability, covered, position)
				}
			}
		}
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	p = startNode(t, queryConfig(dir), testDeps(io.Discard))
	waitNode(t, p)
	for _, topic := range []string{"object", "disk"} {
		if got, _ := count(t, p.URL(), "SELECT count(*) FROM "+topic, client.QueryOptions{}); got != 30 {
			t.Errorf("after a restart %s has %d rows", topic, got)
		}
	}
	c, err := client.New(client.Config{Server: p.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.DeleteTopic(t.Context(), "object"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Query(t.Context(), "SELECT * FROM object", client.QueryOptions{}); !client.IsNotFound(err) && !strings.Contains(fmt.Sprint(err), "no table") {
		t.Errorf("a deleted topic: %v", err)
	}
	createTopic(t, p.URL(), "object", 1, nil)
	produceTo(t, p.URL(), "object", `{"m":"new"}`)
	if got, _ := count(t, p.URL(), "SELECT count(*) FROM object WHERE m = 'new'", client.QueryOptions{}); got != 1 {
		t.Errorf("a topic made anew has %d rows", got)
	}
}

// The names that a server's status page has, as a server gives them: quoted, nested, beginning with digits.
func TestNestedNames(t *testing.T) {
	p := startNode(t, queryConfig(t.TempDir()), testDeps(io.Discard))
	waitNode(t, p)
	createTopic(t, p.URL(), "status", 1, nil)
	for n := range 10 {
		produceTo(t, p.URL(), "status", fmt.Sprintf(`{"connections":{"accepted":%d,"active":1},"server_zones":{"hg.nginx.org":{"requests":%d,"responses":{"1xx":0,"2xx":%d}},"trac.nginx.org":{"requests":7}}}`, 100+n, 10*n, n))
	}
	for sql, want := range map[string]int64{
		`SELECT sum(connections.accepted)::BIGINT FROM status`:                                           1045,
		`SELECT sum(server_zones."hg.nginx.org".requests)::BIGINT FROM status`:                           450,
		`SELECT max(server_zones."hg.nginx.org".responses."2xx") FROM status`:                            9,
		`SELECT count(*) FROM status WHERE server_zones."hg.nginx.org".responses."1xx" = 0`:              10,
		`SELECT count(DISTINCT s."trac.nginx.org".requests) FROM (SELECT server_zones AS s FROM status)`: 1,
	} {
		if got, _ := count(t, p.URL(), sql, client.QueryOptions{}); got != want {
			t.Errorf("%s: %d, want %d", sql, got, want)
		}
	}
}

// Counting by a field is what counting the documents by hand gives.
func TestCountsAreThoseOfTheDocuments(t *testing.T) {
	p := startNode(t, queryConfig(t.TempDir()), testDeps(io.Discard))
	waitNode(t, p)
	createTopic(t, p.URL(), "access", 4, nil)
	want := map[int]int64{}
	var values []string
	for n := range 500 {
		status := []int{200, 200, 200, 304, 404, 200, 301, 206}[n*n%8]
		want[status]++
		values = append(values, fmt.Sprintf(`{"ip":"10.0.0.%d","status":%d,"path":"/p%d"}`, n%9, status, n))
	}
	produceTo(t, p.URL(), "access", values...)
	for status, n := range want {
		if got, _ := count(t, p.URL(), fmt.Sprintf("SELECT n FROM (SELECT status, count(*) AS n FROM access GROUP BY status) WHERE status = %d", status), client.QueryOptions{}); got != n {
			t.Errorf("status %d: %d, want %d", status, got, n)
		}
	}
}

// A process with the role query alone answers from the log of another, finds it through etcd, also when it has moved, and takes
// nothing but queries.
func TestQueryProcessOfItsOwn(t *testing.T) {
	kv := metafake.New(metafake.Config{Clock: clock.System()})
	deps := testDeps(io.Discard)
	deps.connect = func(context.Context, serverConfig, *dataDir, *slog.Logger) (metadata, error) {
		return metadata{kv: kv, where: "etcd of the test", close: func() error { return nil }}, nil
	}
	dir := t.TempDir()
	logConfig := devConfig(dir)
	p, err := openNode(t.Context(), logConfig, deps)
	if err != nil {
		t.Fatal(err)
	}
	waitNode(t, p)
	createTopic(t, p.URL(), "orders", 2, nil)
	position := produceTo(t, p.URL(), "orders", `{"n":1}`, `{"n":2}`)

	queryOnly := queryConfig(t.TempDir())
	queryOnly.roles = []string{roleQuery}
	q := startNode(t, queryOnly, deps)
	waitNode(t, q)
	if status, body := httpGet(t, q.URL()+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if got, _ := count(t, q.URL(), "SELECT count(*) FROM orders WHERE n > 0", client.QueryOptions{AtLeast: []client.Position{position}}); got != 2 {
		t.Errorf("%d rows", got)
	}
	if status, _ := httpPost(t, q.URL()+"/v1/topics/orders/records", `{"n":3}`); status != http.StatusNotFound {
		t.Errorf("a query process took a record: %d", status)
	}
	astray, err := client.New(client.Config{Server: q.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer astray.Close()
	if _, err := astray.ListTopics(t.Context()); err == nil || !strings.Contains(err.Error(), "role ingest") {
		t.Errorf("topics of a query process: %v", err)
	}
	if status, _ := httpPost(t, p.URL()+"/v1/sql", `SELECT 1`); status != http.StatusNotFound {
		t.Errorf("a log process answered a query: %d", status)
	}
	// The log's process ends, and comes back on another port.
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	p = startNode(t, logConfig, deps)
	waitNode(t, p)
	produceTo(t, p.URL(), "orders", `{"n":3}`)
	if got, _ := count(t, q.URL(), "SELECT count(*) FROM orders WHERE n > 0", client.QueryOptions{}); got != 3 {
		t.Errorf("after the log came back: %d rows", got)
	}
}

package killtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/record"
)

const (
	partitions = 4
	shortKills = 3 // for each durability, when TIDEMARK_KILLS does not say
)

func TestKill(t *testing.T) {
	kills := shortKills
	if s := os.Getenv("TIDEMARK_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("TIDEMARK_KILLS=%q: %v", s, err)
		}
		kills = n
	}
	binary := build(t)
	for _, durability := range []string{"object", "disk"} {
		t.Run(durability, func(t *testing.T) { killAgainAndAgain(t, binary, durability, kills) })
	}
}

// pause waits. Real processes run here, and nothing that is checked depends on how long it takes.
func pause(d time.Duration) { <-clock.System().NewTimer(d).C() }

func build(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "tidemark")
	cmd := exec.Command("go", "build", "-o", out, "github.com/tidemark-io/tidemark/cmd/tidemark")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1") // with SQL
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	return out
}

// server is the process under test.
type server struct {
	t       *testing.T
	binary  string
	dir     string
	address string
	cmd     *exec.Cmd
	log     *os.File
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "dev", "--data-dir", s.dir, "--http", s.address, "--kafka", "off")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	deadline := clock.System().Now().Add(30 * time.Second)
	for clock.System().Now().Before(deadline) {
		answer, err := http.Get("http://" + s.address + "/readyz")
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		pause(10 * time.Millisecond) // polling another process
	}
	s.t.Fatalf("the server is not ready after 30 s; its log:\n%s", s.tail())
}

func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	_ = s.cmd.Wait() // says that it was killed
}

func (s *server) tail() []byte {
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-4000):]
}

// acked is what the producer was told.
type acked struct {
	mu      sync.Mutex
	offsets map[uint64]place
	failed  []error
}

type place struct {
	partition int32
	offset    int64
}

func killAgainAndAgain(t *testing.T, binary, durability string, kills int) {
	t.Helper()
	seed := uint64(clock.System().Now().UnixNano())
	if s := os.Getenv("TIDEMARK_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("TIDEMARK_SEED=%d chooses when to kill", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()

	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s := &server{t: t, binary: binary, dir: filepath.Join(dir, "data"), address: freeAddress(t), log: log}
	s.start()
	defer func() { s.kill() }()

	c, err := client.New(client.Config{Server: "http://" + s.address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.CreateTopic(ctx, "kill", partitions, map[string]string{"durability": durability}, false); err != nil {
		t.Fatal(err)
	}
	known := &acked{offsets: make(map[uint64]place)}
	producing, stopProducing := context.WithCancel(ctx)
	var produced uint64
	var producer *client.Producer
	if producer, err = c.NewProducer(client.ProducerConfig{}); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() { produced = produceForEver(producing, t, producer, known) })

	agreed := 0
	for n := range kills {
		wait := time.Duration(50+random.IntN(1000)) * time.Millisecond
		pause(wait) // the process lives this long
		s.kill()
		before := known.snapshot()
		s.start()
		when := fmt.Sprintf("after kill %d, %v after the start", n+1, wait)
		said := count(ctx, t, c, before, when)
		check(ctx, t, c, before, 0, said, when)
		agreed++
	}
	stopProducing()
	work.Wait()
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := producer.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if len(known.failed) > 0 {
		t.Fatalf("%d records failed, the first with: %v", len(known.failed), known.failed[0])
	}
	all := known.snapshot()
	if uint64(len(all)) != produced {
		t.Fatalf("%d of %d records were acknowledged", len(all), produced)
	}
	said := count(ctx, t, c, all, "at the end")
	check(ctx, t, c, all, produced, said, "at the end")
	if said.records != int64(produced) {
		t.Fatalf("at the end: SQL counts %d records, %d were produced", said.records, produced)
	}
	t.Logf("durability=%s: %d kills, %d records acknowledged, each there once, in order; SQL counted what consume returns, %d of %d",
		durability, kills, produced, agreed, kills)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// produceForEver sends numbered records, each to the partition of its number, and returns how many.
func produceForEver(ctx context.Context, t *testing.T, p *client.Producer, known *acked) uint64 {
	t.Helper()
	var n uint64
	value := make([]byte, 200)
	for ctx.Err() == nil {
		number := n
		binary.BigEndian.PutUint64(value, number)
		// Without ctx: a record that was taken must be answered, also one that waited for room when producing ended.
		err := p.ProduceTo(context.WithoutCancel(ctx), "kill", int32(number%partitions), record.Record{Value: value}, func(r client.Result) {
			known.mu.Lock()
			defer known.mu.Unlock()
			if r.Err != nil {
				known.failed = append(known.failed, r.Err)
				return
			}
			known.offsets[number] = place{partition: r.Partition, offset: r.Offset}
		})
		if err != nil {
			t.Errorf("produce: %v", err)
			return n
		}
		n++
		if n%50 == 0 {
			pause(time.Millisecond) // a steady load, not a full pipe
		}
	}
	return n
}

func (a *acked) snapshot() map[uint64]place {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[uint64]place, len(a.offsets))
	maps.Copy(out, a.offsets)
	return out
}

// counted is what SQL says about the log, up to a position.
type counted struct {
	records  int64
	position map[int32]int64
}

// count asks by SQL how many records there are. The answer covers everything that was acknowledged before.
func count(ctx context.Context, t *testing.T, c *client.Client, before map[uint64]place, when string) counted {
	t.Helper()
	rows, err := c.Query(ctx, "SELECT count(*) FROM kill", client.QueryOptions{})
	if err != nil {
		t.Fatalf("%s: query: %v", when, err)
	}
	defer rows.Close()
	rec, err := rows.Next()
	if err != nil {
		t.Fatalf("%s: query: %v", when, err)
	}
	defer rec.Release()
	out := counted{records: rec.Column(0).(*array.Int64).Value(0)}
	if _, err := rows.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("%s: query: %v after its only row", when, err)
	}
	if len(rows.Position()) != 1 || len(rows.Position()[0].Offsets) != partitions {
		t.Fatalf("%s: the query's position is %v", when, rows.Position())
	}
	out.position = rows.Position()[0].Offsets
	for number, at := range before {
		if at.offset >= out.position[at.partition] {
			t.Fatalf("%s: record %d was acknowledged at %+v before the query, which covers %v", when, number, at, rows.Position()[0])
		}
	}
	return out
}

// check reads everything and compares it with what was acknowledged: once, at that offset, in order. With total > 0 the log
// holds the records 0 to total-1 and nothing else. What SQL counted is what is read up to the same position.
func check(ctx context.Context, t *testing.T, c *client.Client, want map[uint64]place, total uint64, said counted, when string) {
	t.Helper()
	consumer, err := c.NewConsumer("kill", client.ConsumerConfig{UntilEnd: true})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	found := make(map[uint64]place)
	var next [partitions]int64
	last := [partitions]int64{-1, -1, -1, -1}
	var covered int64
	for {
		batches, err := consumer.Poll(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: consume: %v", when, err)
		}
		p := batches.Partition
		for r, err := range batches.Records() {
			if err != nil {
				t.Fatalf("%s: consume: %v", when, err)
			}
			if r.Offset != next[p] {
				t.Fatalf("%s: partition %d goes from offset %d to %d", when, p, next[p]-1, r.Offset)
			}
			next[p]++
			if r.Offset < said.position[p] {
				covered++
			}
			number := binary.BigEndian.Uint64(r.Value)
			if before, twice := found[number]; twice {
				t.Fatalf("%s: record %d is in the log twice: at %+v and at partition %d offset %d", when, number, before, p, r.Offset)
			}
			if int64(number) <= last[p] {
				t.Fatalf("%s: partition %d has record %d after %d", when, p, number, last[p])
			}
			last[p] = int64(number)
			found[number] = place{partition: p, offset: r.Offset}
		}
	}
	for number, at := range want {
		got, ok := found[number]
		if !ok {
			t.Fatalf("%s: record %d was acknowledged at %+v and is not in the log, which has %d records", when, number, at, len(found))
		}
		if got != at {
			t.Fatalf("%s: record %d was acknowledged at %+v and is at %+v", when, number, at, got)
		}
	}
	if covered != said.records {
		t.Fatalf("%s: SQL counts %d records up to %v, consume returns %d", when, said.records, said.position, covered)
	}
	if total > 0 && uint64(len(found)) != total {
		t.Fatalf("%s: the log has %d records, %d were produced", when, len(found), total)
	}
}

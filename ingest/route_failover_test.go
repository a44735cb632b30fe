package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// A consumer reads and a producer writes through a node that leads nothing of it, and the leader dies: both only wait.
func TestAConsumerAndAProducerSurviveALeadersDeath(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 3, nil)
		partition := w.ledBy("a", "n2")
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		stream, err := w.nodes["n3"].consume().Consume(ctx, &tidemarkv1.ConsumeRequest{Topic: "a", From: &tidemarkv1.ConsumeRequest_Start{Start: true}})
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan string, 100)
		ended := make(chan error, 1)
		go func() {
			for stream.Receive() {
				if b := stream.Msg().GetBatches(); b.GetPartition() == partition && len(b.GetBatches()) > 0 {
					for _, v := range valuesOf(t, b, b.GetNextOffset()-1) {
						read <- v
					}
				}
			}
			ended <- stream.Err()
		}()
		var want []string
		for n := range 6 {
			value := fmt.Sprint(n)
			if n == 3 {
				w.nodes["n2"].kill()
				synctest.Wait() // what is sent before the end is noticed would be in doubt
			}
			began := clock.System().Now()
			if n%2 == 1 {
				url := fmt.Sprintf("%s/v1/topics/a/records?partition=%d", w.nodes["n1"].url(), partition)
				response, err := w.nodes["n1"].client().Post(url, "text/plain", strings.NewReader(value))
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Fatalf("plain produce %d: %s %s", n, response.Status, body)
				}
			} else {
				w.nodes["n3"].mustSend("a", partition, value)
			}
			if took := clock.System().Now().Sub(began); took > leaderPatience {
				t.Errorf("produce %d took %s", n, took)
			}
			want = append(want, value)
			if got := <-read; got != value {
				t.Fatalf("read %q where %q was due", got, value)
			}
		}
		if now := w.leaders("n1", "a"); slices.Contains(now, "n2") {
			t.Errorf("leaders are %v", now)
		}
		if got := w.nodes["n1"].read("a")[partition]; !slices.Equal(got, want) {
			t.Errorf("the log is %v, want %v", got, want)
		}
		select {
		case err := <-ended:
			t.Errorf("the consumer was ended: %v", err)
		default:
		}
		cancel()
		<-ended
	})
}

// What a producer has on its way to a leader that dies is not known to be refused, and what comes after it is.
func TestAStreamToALeaderThatDies(t *testing.T) {
	inRouteWorld(t, 2, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 2, nil)
		partition := w.ledBy("a", "n2")
		stream, err := w.nodes["n1"].produce().ProduceStream(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		send := func(n int) {
			if err := stream.Send(&tidemarkv1.ProduceStreamRequest{Correlation: uint64(n), Produce: &tidemarkv1.ProduceRequest{
				Topic: "a", Partition: partition, Batch: oneBatch(fmt.Sprint(n)),
			}}); err != nil {
				t.Fatal(err)
			}
		}
		reason := func() string {
			answer, err := stream.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if answer.GetProduced() != nil {
				return "done"
			}
			return answer.GetError().GetReason()
		}
		send(0)
		if got := reason(); got != "done" {
			t.Fatal(got)
		}
		w.nodes["n2"].kv.cut.Store(true) // it can commit nothing any more
		send(1)
		w.after(time.Second)
		w.nodes["n2"].kill()
		if got := reason(); got != string(ReasonOutcomeUnknown) {
			t.Errorf("on its way: %s", got)
		}
		send(2)
		if got := reason(); got != string(ReasonNotLeader) {
			t.Errorf("behind it: %s", got)
		}
		w.after(15 * time.Second)
		send(3)
		if got := reason(); got != "done" {
			t.Errorf("after the take-over: %s", got)
		}
		if err := stream.CloseRequest(); err != nil {
			t.Error(err)
		}
		if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// A node that stops hands over; callers of another one notice nothing.
func TestProducesSurviveARollingRestart(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 6, nil)
		ctx, stop := context.WithCancel(w.ctx)
		counts := make(chan int, 6)
		for partition := range int32(6) {
			go func() {
				n := 0
				for ctx.Err() == nil {
					if _, err := w.nodes["n1"].send("a", partition, fmt.Sprint(n)); err != nil {
						t.Errorf("partition %d: %v", partition, err)
						break
					}
					n++
					w.after(50 * time.Millisecond)
				}
				counts <- n
			}()
		}
		w.after(time.Second)
		n2 := w.nodes["n2"]
		n2.services.Drain()
		closing, cancel := context.WithTimeout(w.ctx, 20*time.Second)
		defer cancel()
		if err := n2.node.Close(closing); err != nil {
			t.Fatal(err)
		}
		if err := n2.server.Shutdown(closing); err != nil {
			t.Fatal(err)
		}
		w.after(time.Second)
		stop()
		total := 0
		for range 6 {
			total += <-counts
		}
		got := 0
		for partition, values := range w.nodes["n3"].read("a") {
			got += len(values)
			for n, v := range values {
				if v != fmt.Sprint(n) {
					t.Fatalf("partition %d has %q at %d", partition, v, n)
				}
			}
		}
		if got != total || total < 30 {
			t.Errorf("%d were acknowledged, %d are there", total, got)
		}
	})
}

func TestACallIsForwardedOnce(t *testing.T) {
	inRouteWorld(t, 2, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 2, nil)
		partition := w.ledBy("a", "n2")
		forwarded := func() context.Context {
			ctx, call := connect.NewClientContext(w.ctx)
			call.RequestHeader().Set(headerHops, "1")
			return ctx
		}
		began := clock.System().Now()
		_, err := w.nodes["n1"].produce().Produce(forwarded(), &tidemarkv1.ProduceRequest{Topic: "a", Partition: partition, Batch: oneBatch("x")})
		reason, e := wireReason(err)
		if reason != ReasonNotLeader || e.Metadata[metadataLeader] != "n2" || e.Metadata[metadataLeaderURL] != "http://n2:80" {
			t.Errorf("a forwarded produce: %v %v", err, e.Metadata)
		}
		if took := clock.System().Now().Sub(began); took > time.Second {
			t.Errorf("it was kept waiting for %s", took)
		}
		_, err = w.nodes["n1"].consume().Fetch(forwarded(), &tidemarkv1.FetchRequest{Topic: "a", Partitions: []*tidemarkv1.FetchPartition{{Partition: partition}}, MaxWaitMs: 60_000})
		if reason, e := wireReason(err); reason != ReasonNotLeader || e.Metadata[metadataLeader] != "n2" {
			t.Errorf("a forwarded fetch: %v %v", err, e.Metadata)
		}
		_, err = w.nodes["n1"].topics().ListOffsets(forwarded(), &tidemarkv1.ListOffsetsRequest{Topic: "a", Partitions: []int32{partition}, At: &tidemarkv1.ListOffsetsRequest_TimestampMs{}})
		if reason, _ := wireReason(err); reason != ReasonNotLeader {
			t.Errorf("a forwarded question for an offset: %v", err)
		}
		// The sender may be ahead: the receiver waits for its revision, and not for ever.
		ctx, call := connect.NewClientContext(w.ctx)
		call.RequestHeader().Set(headerHops, "1")
		call.RequestHeader().Set(headerIndexRevision, "1000000000")
		began = clock.System().Now()
		_, err = w.nodes["n1"].produce().Produce(ctx, &tidemarkv1.ProduceRequest{Topic: "a", Partition: partition, Batch: oneBatch("x")})
		if reason, _ := wireReason(err); reason != ReasonNotLeader {
			t.Error(err)
		}
		if took := clock.System().Now().Sub(began); took != forwardedWait {
			t.Errorf("it took %s", took)
		}
	})
}

func TestATopicIsKnownEverywhereAtOnce(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		w.kv.HoldWatches()
		synctest.Wait()
		made := make(chan struct{})
		go func() {
			w.create("n1", "a", 3, nil)
			close(made)
		}()
		w.after(time.Second)
		answered := make(chan error, 1)
		go func() {
			_, err := w.nodes["n3"].send("a", 2, "x")
			answered <- err
		}()
		w.after(time.Second)
		select {
		case err := <-answered:
			t.Fatalf("answered from an index that lags: %v", err)
		default:
		}
		w.kv.ReleaseWatches(0)
		if err := <-answered; err != nil {
			t.Error(err)
		}
		<-made
		if _, err := w.nodes["n2"].send("nobody", 0, "x"); err == nil {
			t.Error("a topic that is not there took a record")
		} else if reason, _ := wireReason(err); reason != ReasonUnknownTopic {
			t.Error(err)
		}
		if _, err := w.nodes["n2"].send("a", 3, "x"); err == nil {
			t.Error("a partition that is not there took a record")
		} else if reason, _ := wireReason(err); reason != ReasonUnknownPartition {
			t.Error(err)
		}
	})
}

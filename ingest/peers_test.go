package ingest

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// deafPeer answers the first request of a stream, and reads nothing more of it, as a node does whose etcd is away and whose window is full.
type deafPeer struct {
	tidemarkv1connect.UnimplementedProduceServiceHandler

	end chan struct{}
}

func (p deafPeer) ProduceStream(_ context.Context, s *connect.BidiStream[tidemarkv1.ProduceStreamRequest, tidemarkv1.ProduceStreamResponse]) error {
	m, err := s.Receive()
	if err != nil {
		return err
	}
	err = s.Send(&tidemarkv1.ProduceStreamResponse{
		Correlation: m.GetCorrelation(), Result: &tidemarkv1.ProduceStreamResponse_Produced{Produced: &tidemarkv1.ProduceResponse{}},
	})
	<-p.end
	return err
}

func TestForwarderEndsWhileItsPeerReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := &pipeNet{listeners: make(map[string]*pipeListener)}
		end := make(chan struct{})
		mux := http.NewServeMux()
		mux.Handle(tidemarkv1connect.NewProduceServiceHandler(deafPeer{end: end}))
		server := &http.Server{Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
		server.Protocols.SetUnencryptedHTTP2(true)
		served := make(chan error, 1)
		listener := pipes.listen("n2:80")
		go func() { served <- server.Serve(listener) }()
		defer func() {
			close(end)
			_ = server.Close()
			<-served
			pipes.close()
		}()
		pool := newPeerPool("n1", func() (clusterIndex, *Error) { return nil, Errorf(ReasonUnavailable, "it begins anew") }, pipes.dial)
		defer pool.close()
		produce := tidemarkv1connect.NewProduceServiceClient(streamEnder{&peerClient{pool}}, "http://n2:80")
		f := newForwarder(t.Context(), "n2", clock.System(), func(ctx context.Context) (produceCallStream, error) { return produce.ProduceStream(ctx) })
		ended := make(chan struct{})
		go func() {
			f.run()
			close(ended)
		}()
		first := make(chan error, 1)
		f.produce(t.Context(), ProduceRequest{Topic: "a", Batch: make([]byte, 100)}, func(_ ProduceResult, err error) { first <- err })
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		const sent = 12
		answers := make(chan error, sent)
		for range sent {
			f.produce(t.Context(), ProduceRequest{Topic: "a", Batch: make([]byte, 4<<20)}, func(_ ProduceResult, err error) { answers <- err })
		}
		synctest.Wait() // the flow control of the connection has no more room
		if len(answers) > 0 {
			t.Fatal("answered already:", <-answers)
		}
		f.close()
		select {
		case <-ended:
		case <-clock.System().NewTimer(time.Minute).C():
			t.Fatal("the forwarder has not ended")
		}
		for range sent {
			if err := <-answers; ReasonOf(err) != ReasonOutcomeUnknown && ReasonOf(err) != ReasonNotLeader {
				t.Error(err)
			}
		}
	})
}

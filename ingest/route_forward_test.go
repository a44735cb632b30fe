package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// fakePeer is another node's produce stream under the test's hand. It answers nothing by itself.
type fakePeer struct {
	refuse  error // of the next streams
	opened  int
	streams []*fakeStream
}

func (p *fakePeer) open(ctx context.Context) (produceCallStream, error) {
	p.opened++
	s := &fakeStream{ctx: ctx, sent: make(chan *tidemarkv1.ProduceStreamRequest, 2*forwardRequests), answers: make(chan *tidemarkv1.ProduceStreamResponse), broken: make(chan struct{})}
	if p.refuse != nil {
		s.end(p.refuse)
	}
	p.streams = append(p.streams, s)
	return s, nil
}

func (p *fakePeer) last() *fakeStream { return p.streams[len(p.streams)-1] }

type fakeStream struct {
	ctx     context.Context //nolint:containedctx // the call's
	sent    chan *tidemarkv1.ProduceStreamRequest
	answers chan *tidemarkv1.ProduceStreamResponse
	broken  chan struct{}
	err     error
	stuck   chan struct{} // Send waits for it when it is there
}

func (s *fakeStream) end(err error) {
	s.err = err
	close(s.broken)
}

func (s *fakeStream) Send(r *tidemarkv1.ProduceStreamRequest) error {
	if s.stuck != nil {
		select {
		case <-s.stuck:
		case <-s.broken:
		}
	}
	select {
	case <-s.broken:
		return io.EOF
	default:
	}
	s.sent <- r
	return nil
}

func (s *fakeStream) Receive() (*tidemarkv1.ProduceStreamResponse, error) {
	select {
	case a := <-s.answers:
		return a, nil
	case <-s.broken:
		return nil, s.err
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (s *fakeStream) CloseRequest() error { return nil }

// answer answers the oldest request that was sent.
func (s *fakeStream) answer(offset int64) {
	r := <-s.sent
	s.answers <- &tidemarkv1.ProduceStreamResponse{Correlation: r.GetCorrelation(), Result: &tidemarkv1.ProduceStreamResponse_Produced{
		Produced: &tidemarkv1.ProduceResponse{BaseOffset: offset, Records: 1, Reached: tidemarkv1.Reached_REACHED_OBJECT},
	}}
}

var errDial = connect.NewError(connect.CodeUnavailable, &net.OpError{Op: "dial", Err: errors.New("refused")})

// inForwarderWorld runs a story with a forwarder to a fake peer.
func inForwarderWorld(t *testing.T, story func(t *testing.T, f *forwarder, p *fakePeer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &fakePeer{}
		f := newForwarder(t.Context(), "n2", clock.System(), p.open)
		done := make(chan struct{})
		go func() {
			f.run()
			close(done)
		}()
		story(t, f, p)
		f.close()
		<-done
	})
}

// forwarded collects what comes of produces, by value.
type forwarded struct {
	t     *testing.T
	f     *forwarder
	order []string
}

func (c *forwarded) produce(name string) {
	c.f.produce(c.t.Context(), ProduceRequest{Topic: "a", Batch: oneBatch(name)}, func(r ProduceResult, err error) {
		what := string(ReasonOf(err))
		if err == nil {
			what = fmt.Sprint(r.BaseOffset)
		}
		c.order = append(c.order, name+"="+what)
	})
}

func (c *forwarded) want(what string) {
	c.t.Helper()
	synctest.Wait()
	if got := fmt.Sprint(c.order); got != what {
		c.t.Errorf("%s, want %s", got, what)
	}
}

func TestForwardedProducesWhoseStreamBreaks(t *testing.T) {
	inForwarderWorld(t, func(t *testing.T, f *forwarder, p *fakePeer) {
		c := &forwarded{t: t, f: f}
		c.produce("a")
		c.produce("b")
		synctest.Wait()
		p.last().answer(7)
		c.want("[a=7]")
		// The stream holds up what comes next, then it breaks.
		first := p.last()
		first.stuck = make(chan struct{})
		c.produce("c")
		c.produce("d")
		synctest.Wait()
		first.end(errors.New("connection reset"))
		// b and c were handed over, d was not and goes over the next one.
		c.want("[a=7 b=OUTCOME_UNKNOWN c=OUTCOME_UNKNOWN]")
		p.last().answer(9)
		c.want("[a=7 b=OUTCOME_UNKNOWN c=OUTCOME_UNKNOWN d=9]")
		if p.opened != 2 {
			t.Errorf("%d streams", p.opened)
		}
	})
}

func TestForwardedProducesThatNobodyTook(t *testing.T) {
	inForwarderWorld(t, func(t *testing.T, f *forwarder, p *fakePeer) {
		c := &forwarded{t: t, f: f}
		c.produce("a")
		synctest.Wait()
		stopping := connect.NewWireError(connect.CodeUnavailable, errors.New("stopping"))
		addDetail(stopping, &errdetails.ErrorInfo{Reason: string(ReasonShuttingDown)})
		p.last().end(stopping)
		c.want("[a=NOT_LEADER]")
		p.refuse = errDial
		<-clock.System().NewTimer(time.Second).C()
		c.produce("b")
		c.want("[a=NOT_LEADER b=NOT_LEADER]")
		// It is not dialed again for everybody who comes.
		opened := p.opened
		for range 100 {
			c.f.produce(t.Context(), ProduceRequest{Topic: "a", Batch: oneBatch("x")}, func(_ ProduceResult, err error) {
				if ReasonOf(err) != ReasonNotLeader {
					t.Error(err)
				}
			})
		}
		if p.opened != opened {
			t.Errorf("%d more streams", p.opened-opened)
		}
		p.refuse = nil
		<-clock.System().NewTimer(2 * time.Second).C()
		c.produce("c")
		synctest.Wait()
		p.last().answer(1)
		c.want("[a=NOT_LEADER b=NOT_LEADER c=1]")
	})
}

func TestForwardedProducesAreBounded(t *testing.T) {
	inForwarderWorld(t, func(t *testing.T, f *forwarder, p *fakePeer) {
		answered := 0
		for range forwardRequests {
			f.produce(t.Context(), ProduceRequest{Topic: "a", Batch: oneBatch("x")}, func(ProduceResult, error) { answered++ })
		}
		began := clock.System().Now()
		c := &forwarded{t: t, f: f}
		c.produce("late")
		c.want("[late=BACK_PRESSURE]")
		if took := clock.System().Now().Sub(began); took != forwardDelay {
			t.Errorf("refused after %s", took)
		}
		// There is still no room, so nobody else waits for it.
		c.produce("later")
		c.want("[late=BACK_PRESSURE later=BACK_PRESSURE]")
		if took := clock.System().Now().Sub(began); took != forwardDelay {
			t.Errorf("refused after %s", took)
		}
		p.last().answer(1)
		synctest.Wait()
		f.produce(t.Context(), ProduceRequest{Topic: "a", Batch: oneBatch("x")}, func(ProduceResult, error) { answered++ })
		began = clock.System().Now()
		c.produce("again")
		if took := clock.System().Now().Sub(began); took != forwardDelay {
			t.Errorf("there was room meanwhile, and then it was refused after %s", took)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		f.produce(gone, ProduceRequest{Topic: "a", Batch: oneBatch("x")}, func(_ ProduceResult, err error) {
			if ReasonOf(err) != ReasonCanceled {
				t.Error(err)
			}
		})
		f.close()
		synctest.Wait()
		if answered != forwardRequests+1 {
			t.Errorf("%d of %d were answered at the end", answered, forwardRequests+1)
		}
		c.produce("after the end")
		c.want("[late=BACK_PRESSURE later=BACK_PRESSURE again=BACK_PRESSURE after the end=NOT_LEADER]")
	})
}

func TestAnswersThatNobodyWaitsFor(t *testing.T) {
	inForwarderWorld(t, func(t *testing.T, f *forwarder, p *fakePeer) {
		c := &forwarded{t: t, f: f}
		c.produce("a")
		synctest.Wait()
		p.last().answers <- &tidemarkv1.ProduceStreamResponse{Correlation: 99}
		p.last().answers <- &tidemarkv1.ProduceStreamResponse{Correlation: 1}
		p.last().answers <- &tidemarkv1.ProduceStreamResponse{Correlation: 1}
		c.want("[a=OUTCOME_UNKNOWN]") // an answer without a result says nothing
	})
}

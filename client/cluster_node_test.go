package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// ProduceStream keeps the order of answers within a partition.
func (n *fakeNode) ProduceStream(ctx context.Context, st *connect.BidiStream[tidemarkv1.ProduceStreamRequest, tidemarkv1.ProduceStreamResponse]) error {
	var mu sync.Mutex
	waiting := map[int32][]*tidemarkv1.ProduceStreamResponse{}
	var ready []*tidemarkv1.ProduceStreamResponse
	wake := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() {
		for {
			mu.Lock()
			out := ready
			ready = nil
			mu.Unlock()
			for _, r := range out {
				if st.Send(r) != nil {
					return
				}
			}
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		r, err := st.Receive()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		n.gate.pass()
		partition := r.GetProduce().GetPartition()
		slot := &tidemarkv1.ProduceStreamResponse{Correlation: r.GetCorrelation()}
		mu.Lock()
		waiting[partition] = append(waiting[partition], slot)
		mu.Unlock()
		n.c.mu.Lock()
		if n.dead {
			n.c.mu.Unlock()
			return connect.NewError(connect.CodeUnavailable, errors.New("dead"))
		}
		n.take(r.GetProduce(), false, func(ok *tidemarkv1.ProduceResponse, perr *tidemarkv1.ProduceError) {
			mu.Lock()
			defer mu.Unlock()
			slot.Result = &tidemarkv1.ProduceStreamResponse_Produced{Produced: ok}
			if perr != nil {
				slot.Result = &tidemarkv1.ProduceStreamResponse_Error{Error: perr}
			}
			for len(waiting[partition]) > 0 && waiting[partition][0].GetResult() != nil {
				ready = append(ready, waiting[partition][0])
				waiting[partition] = waiting[partition][1:]
			}
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		n.c.mu.Unlock()
	}
}

// InitProducer gives out the next id.
func (n *fakeNode) InitProducer(context.Context, *tidemarkv1.InitProducerRequest) (*tidemarkv1.InitProducerResponse, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.nextID++
	return &tidemarkv1.InitProducerResponse{ProducerId: n.c.nextID}, nil
}

// GetTopic knows t alone.
func (n *fakeNode) GetTopic(_ context.Context, r *tidemarkv1.GetTopicRequest) (*tidemarkv1.GetTopicResponse, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if r.GetName() != "t" {
		return nil, notFound(r.GetName())
	}
	return &tidemarkv1.GetTopicResponse{Topic: &tidemarkv1.Topic{Name: "t", Id: "00ff", Partitions: int32(len(n.c.parts))}}, nil
}

// WatchMetadata tells what the node knows, whenever it knows more.
func (n *fakeNode) WatchMetadata(ctx context.Context, r *tidemarkv1.WatchMetadataRequest, st *connect.ServerStream[tidemarkv1.WatchMetadataResponse]) error {
	told := int64(-1)
	n.c.mu.Lock()
	n.watchers++
	n.c.mu.Unlock()
	for {
		n.c.mu.Lock()
		changed, index, dead := n.c.changed, n.index, n.dead
		lie := n.lie
		n.c.mu.Unlock()
		if dead {
			return connect.NewError(connect.CodeUnavailable, errors.New("dead"))
		}
		if index.GetRevision() != told {
			told = index.GetRevision()
			out := &tidemarkv1.WatchMetadataResponse{Revision: told, NodesChanged: true, Nodes: index.GetNodes()}
			if slices.Contains(r.GetTopics(), "t") {
				out.Topics = index.GetTopics()
			}
			if lie != nil {
				lie(out)
			}
			if err := st.Send(out); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gate holds back what goes through connections while it is closed.
type gate struct {
	mu sync.Mutex
	ch chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{ch: make(chan struct{})}
	close(g.ch)
	return g
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ch = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.ch:
	default:
		close(g.ch)
	}
}

func (g *gate) pass() {
	g.mu.Lock()
	ch := g.ch
	g.mu.Unlock()
	<-ch
}

type gatedListener struct {
	net.Listener

	g *gate
}

// Accept is that of the kernel, which accepts for a process that is stopped too.
func (l gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return gatedConn{c, l.g}, nil
}

type gatedConn struct {
	net.Conn

	g *gate
}

func (c gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.g.pass()
	return n, err
}

func (c gatedConn) Write(b []byte) (int, error) {
	c.g.pass()
	return c.Conn.Write(b)
}

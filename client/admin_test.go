package client_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// adminServer answers with what it was asked.
type adminServer struct {
	tidemarkv1connect.UnimplementedClusterServiceHandler
	tidemarkv1connect.UnimplementedGroupServiceHandler
}

func (adminServer) GetCluster(context.Context, *tidemarkv1.GetClusterRequest) (*tidemarkv1.GetClusterResponse, error) {
	return &tidemarkv1.GetClusterResponse{Id: "c"}, nil
}

func (adminServer) ListLeaders(_ context.Context, r *tidemarkv1.ListLeadersRequest) (*tidemarkv1.ListLeadersResponse, error) {
	out := &tidemarkv1.ListLeadersResponse{}
	for _, t := range r.GetTopics() {
		out.Leaders = append(out.Leaders, &tidemarkv1.Leader{Topic: t})
	}
	return out, nil
}

func (adminServer) DrainNode(_ context.Context, r *tidemarkv1.DrainNodeRequest) (*tidemarkv1.DrainNodeResponse, error) {
	if r.GetCancel() {
		return &tidemarkv1.DrainNodeResponse{}, nil
	}
	return &tidemarkv1.DrainNodeResponse{Partitions: int32(len(r.GetNode()))}, nil
}

func (adminServer) ForgetNode(_ context.Context, r *tidemarkv1.ForgetNodeRequest) (*tidemarkv1.ForgetNodeResponse, error) {
	if !r.GetDryRun() {
		return nil, reasonError(connect.CodeFailedPrecondition, "NODE_ALIVE", nil)
	}
	return &tidemarkv1.ForgetNodeResponse{Lost: []*tidemarkv1.LostRange{{Topic: "t", From: 7}}}, nil
}

func (adminServer) ListGroups(context.Context, *tidemarkv1.ListGroupsRequest) (*tidemarkv1.ListGroupsResponse, error) {
	return &tidemarkv1.ListGroupsResponse{Groups: []*tidemarkv1.GroupListing{{Group: "g"}}}, nil
}

func (adminServer) DescribeGroup(_ context.Context, r *tidemarkv1.DescribeGroupRequest) (*tidemarkv1.DescribeGroupResponse, error) {
	return &tidemarkv1.DescribeGroupResponse{Group: r.GetGroup()}, nil
}

func (adminServer) SeekGroup(_ context.Context, r *tidemarkv1.SeekGroupRequest) (*tidemarkv1.SeekGroupResponse, error) {
	return &tidemarkv1.SeekGroupResponse{Offsets: []*tidemarkv1.CommittedOffset{{Topic: r.GetSeeks()[0].GetTopic(), Offset: r.GetSeeks()[0].GetOffset()}}}, nil
}

func (adminServer) DeleteGroup(_ context.Context, r *tidemarkv1.DeleteGroupRequest) (*tidemarkv1.DeleteGroupResponse, error) {
	return nil, reasonError(connect.CodeFailedPrecondition, "GROUP_NOT_EMPTY", nil)
}

func TestAdminCalls(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle(tidemarkv1connect.NewClusterServiceHandler(adminServer{}))
	mux.Handle(tidemarkv1connect.NewGroupServiceHandler(adminServer{}))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: mux, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = h.Serve(l) })
	// The first server of the list is not there: the calls go to the other one.
	c, err := client.New(client.Config{Server: "http://127.0.0.1:1,http://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Wait()
	defer h.Close()
	defer c.Close()
	ctx := t.Context()
	if r, err := c.GetCluster(ctx); err != nil || r.GetId() != "c" {
		t.Error(r, err)
	}
	if r, err := c.ListLeaders(ctx, "a", "b"); err != nil || len(r) != 2 || r[1].GetTopic() != "b" {
		t.Error(r, err)
	}
	if n, err := c.DrainNode(ctx, "node", false); err != nil || n != 4 {
		t.Error(n, err)
	}
	if n, err := c.DrainNode(ctx, "node", true); err != nil || n != 0 {
		t.Error(n, err)
	}
	if r, err := c.ForgetNode(ctx, "node", true); err != nil || r.GetLost()[0].GetFrom() != 7 {
		t.Error(r, err)
	}
	if r, err := c.ForgetNode(ctx, "node", false); reasonOf(err) != "NODE_ALIVE" {
		t.Error(r, err)
	}
	if r, err := c.ListGroups(ctx); err != nil || r[0].GetGroup() != "g" {
		t.Error(r, err)
	}
	if r, err := c.DescribeGroup(ctx, "g"); err != nil || r.GetGroup() != "g" {
		t.Error(r, err)
	}
	if r, err := c.SeekGroup(ctx, "g", &tidemarkv1.GroupSeek{Topic: "t", To: &tidemarkv1.GroupSeek_Offset{Offset: 9}}); err != nil || r[0].GetOffset() != 9 {
		t.Error(r, err)
	}
	if err := c.DeleteGroup(ctx, "g"); reasonOf(err) != "GROUP_NOT_EMPTY" {
		t.Error(err)
	}
}

package main

import (
	"context"
	"slices"
	"sync"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// fakeCluster answers for nodes. A drain moves one partition away each time somebody looks.
type fakeCluster struct {
	tidemarkv1connect.UnimplementedClusterServiceHandler

	mu      sync.Mutex
	nodes   []*tidemarkv1.Node
	leaders []*tidemarkv1.Leader
	lost    []*tidemarkv1.LostRange
	asked   []*tidemarkv1.ForgetNodeRequest
	looked  func() // called by each look at the cluster
}

func (c *fakeCluster) node(id string) *tidemarkv1.Node {
	for _, n := range c.nodes {
		if n.GetId() == id {
			return n
		}
	}
	return nil
}

func (c *fakeCluster) GetCluster(context.Context, *tidemarkv1.GetClusterRequest) (*tidemarkv1.GetClusterResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looked != nil {
		c.looked()
	}
	for _, n := range c.nodes {
		if n.GetDraining() && n.GetAlive() && n.GetPartitions() > 0 {
			n.Partitions--
		}
	}
	return &tidemarkv1.GetClusterResponse{
		Id: "00112233445566778899aabbccddeeff", Generation: 1, Controller: "n1", Nodes: c.nodes, Revision: 42, Topics: 2, Partitions: 5, Leaderless: 1,
	}, nil
}

func (c *fakeCluster) ListLeaders(_ context.Context, r *tidemarkv1.ListLeadersRequest) (*tidemarkv1.ListLeadersResponse, error) {
	out := &tidemarkv1.ListLeadersResponse{}
	for _, l := range c.leaders {
		if len(r.GetTopics()) == 0 || slices.Contains(r.GetTopics(), l.GetTopic()) {
			out.Leaders = append(out.Leaders, l)
		}
	}
	return out, nil
}

func (c *fakeCluster) DrainNode(_ context.Context, r *tidemarkv1.DrainNodeRequest) (*tidemarkv1.DrainNodeResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.node(r.GetNode())
	if n == nil {
		return nil, reasonError(connect.CodeNotFound, "UNKNOWN_NODE", "unknown node: %s", r.GetNode())
	}
	n.Draining = !r.GetCancel()
	return &tidemarkv1.DrainNodeResponse{Partitions: n.GetPartitions()}, nil
}

func (c *fakeCluster) ForgetNode(_ context.Context, r *tidemarkv1.ForgetNodeRequest) (*tidemarkv1.ForgetNodeResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.node(r.GetNode())
	switch {
	case n == nil:
		return nil, reasonError(connect.CodeNotFound, "UNKNOWN_NODE", "unknown node: %s", r.GetNode())
	case n.GetAlive():
		return nil, reasonError(connect.CodeFailedPrecondition, "NODE_ALIVE", "the node is alive: %s", r.GetNode())
	}
	c.asked = append(c.asked, r)
	return &tidemarkv1.ForgetNodeResponse{Moved: 2, Lost: c.lost}, nil
}

// fakeGroups answers for consumer groups.
type fakeGroups struct {
	tidemarkv1connect.UnimplementedGroupServiceHandler

	mu     sync.Mutex
	groups map[string]*tidemarkv1.DescribeGroupResponse
	sought []*tidemarkv1.GroupSeek
}

func (g *fakeGroups) find(name string) (*tidemarkv1.DescribeGroupResponse, error) {
	if group := g.groups[name]; group != nil {
		return group, nil
	}
	return nil, reasonError(connect.CodeNotFound, "UNKNOWN_GROUP", "there is no group %q", name)
}

func (g *fakeGroups) ListGroups(context.Context, *tidemarkv1.ListGroupsRequest) (*tidemarkv1.ListGroupsResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := &tidemarkv1.ListGroupsResponse{}
	for _, name := range sortedKeys(g.groups) {
		group := g.groups[name]
		out.Groups = append(out.Groups, &tidemarkv1.GroupListing{
			Group: name, State: group.GetState(), Coordinator: group.GetCoordinator(), Members: int32(len(group.GetMembers())), ProtocolType: group.GetProtocolType(),
		})
	}
	return out, nil
}

func (g *fakeGroups) DescribeGroup(_ context.Context, r *tidemarkv1.DescribeGroupRequest) (*tidemarkv1.DescribeGroupResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.find(r.GetGroup())
}

func (g *fakeGroups) SeekGroup(_ context.Context, r *tidemarkv1.SeekGroupRequest) (*tidemarkv1.SeekGroupResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if group := g.groups[r.GetGroup()]; len(group.GetMembers()) > 0 {
		return nil, reasonError(connect.CodeFailedPrecondition, "GROUP_NOT_EMPTY", "group %q has members", r.GetGroup())
	}
	g.sought = append(g.sought, r.GetSeeks()...)
	return &tidemarkv1.SeekGroupResponse{Offsets: []*tidemarkv1.CommittedOffset{{Topic: r.GetSeeks()[0].GetTopic(), Partition: 3, Offset: 7}}}, nil
}

func (g *fakeGroups) DeleteGroup(_ context.Context, r *tidemarkv1.DeleteGroupRequest) (*tidemarkv1.DeleteGroupResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := g.find(r.GetGroup()); err != nil {
		return nil, err
	}
	delete(g.groups, r.GetGroup())
	return &tidemarkv1.DeleteGroupResponse{}, nil
}

package client

import (
	"context"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// GetCluster tells about the cluster and its nodes, alive or not.
func (c *Client) GetCluster(ctx context.Context) (*tidemarkv1.GetClusterResponse, error) {
	return ask(ctx, c, true, func(e *endpoint) (*tidemarkv1.GetClusterResponse, error) {
		return e.cluster.GetCluster(ctx, &tidemarkv1.GetClusterRequest{})
	})
}

// ListLeaders tells who leads which partition of the topics, all when none is named, and why nobody does where nobody does.
func (c *Client) ListLeaders(ctx context.Context, topics ...string) ([]*tidemarkv1.Leader, error) {
	r, err := ask(ctx, c, true, func(e *endpoint) (*tidemarkv1.ListLeadersResponse, error) {
		return e.cluster.ListLeaders(ctx, &tidemarkv1.ListLeadersRequest{Topics: topics})
	})
	return r.GetLeaders(), err
}

// DrainNode marks a node so that its partitions move to others, or takes the mark away with cancel. It returns at once with how many
// partitions are still to move; GetCluster shows how far it is.
func (c *Client) DrainNode(ctx context.Context, node string, cancel bool) (partitions int32, err error) {
	r, err := ask(ctx, c, true, func(e *endpoint) (*tidemarkv1.DrainNodeResponse, error) {
		return e.cluster.DrainNode(ctx, &tidemarkv1.DrainNodeRequest{Node: node, Cancel: cancel})
	})
	return r.GetPartitions(), err
}

// ForgetNode gives up a node that is not alive: what it led goes to others. What its disk had and the object store has not is lost by
// that; with dryRun the answer only names it, and nothing is done.
func (c *Client) ForgetNode(ctx context.Context, node string, dryRun bool) (*tidemarkv1.ForgetNodeResponse, error) {
	return ask(ctx, c, dryRun, func(e *endpoint) (*tidemarkv1.ForgetNodeResponse, error) {
		return e.cluster.ForgetNode(ctx, &tidemarkv1.ForgetNodeRequest{Node: node, DryRun: dryRun})
	})
}

// ListGroups returns the consumer groups that there are, of Kafka's protocol and of this one.
func (c *Client) ListGroups(ctx context.Context) ([]*tidemarkv1.GroupListing, error) {
	r, err := ask(ctx, c, true, func(e *endpoint) (*tidemarkv1.ListGroupsResponse, error) {
		return e.group.ListGroups(ctx, &tidemarkv1.ListGroupsRequest{})
	})
	return r.GetGroups(), err
}

// DescribeGroup tells the members of a group, what they have, and how far they are behind.
func (c *Client) DescribeGroup(ctx context.Context, group string) (*tidemarkv1.DescribeGroupResponse, error) {
	return ask(ctx, c, true, func(e *endpoint) (*tidemarkv1.DescribeGroupResponse, error) {
		return e.group.DescribeGroup(ctx, &tidemarkv1.DescribeGroupRequest{Group: group})
	})
}

// SeekGroup sets where a group without members goes on, and returns the offsets that it has committed by that.
func (c *Client) SeekGroup(ctx context.Context, group string, seeks ...*tidemarkv1.GroupSeek) ([]*tidemarkv1.CommittedOffset, error) {
	r, err := ask(ctx, c, false, func(e *endpoint) (*tidemarkv1.SeekGroupResponse, error) {
		return e.group.SeekGroup(ctx, &tidemarkv1.SeekGroupRequest{Group: group, Seeks: seeks})
	})
	return r.GetOffsets(), err
}

// DeleteGroup forgets a group without members, with its offsets.
func (c *Client) DeleteGroup(ctx context.Context, group string) error {
	_, err := ask(ctx, c, false, func(e *endpoint) (*tidemarkv1.DeleteGroupResponse, error) {
		return e.group.DeleteGroup(ctx, &tidemarkv1.DeleteGroupRequest{Group: group})
	})
	return err
}

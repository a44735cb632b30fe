package meta

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// RenewOnce makes the KeepAliveOnce of a lease client ask once. The library's own repeats the request without a pause for
// as long as etcd is away, which costs a core.
func RenewOnce(lease clientv3.Lease, remote pb.LeaseClient) clientv3.Lease {
	return &renewOnce{Lease: lease, remote: remote}
}

type renewOnce struct {
	clientv3.Lease

	remote pb.LeaseClient
}

func (r *renewOnce) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := r.remote.LeaseKeepAlive(ctx)
	if err != nil {
		return nil, clientv3.ContextError(ctx, err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		return nil, clientv3.ContextError(ctx, err)
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, clientv3.ContextError(ctx, err)
	}
	if answer.TTL <= 0 {
		return nil, rpctypes.ErrLeaseNotFound
	}
	return &clientv3.LeaseKeepAliveResponse{ResponseHeader: answer.Header, ID: id, TTL: answer.TTL}, nil
}

package meta

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Settings of the connection to etcd.
const (
	// A connection on which nothing is heard is asked for a sign of life; gRPC allows this every 10 s at most.
	dialKeepAlive        = 10 * time.Second
	dialKeepAliveTimeout = 5 * time.Second
	// dialTimeout is how long one attempt to connect takes when nobody refuses it, and dialBackoff how long at most
	// passes between two attempts, so that a node is back soon after its etcd is.
	dialTimeout = 3 * time.Second
	dialBackoff = 2 * time.Second
	// requestTimeout ends a request that nobody answers. It is longer than etcd's own (5 s and two elections), whose
	// answer says more.
	requestTimeout = 8 * time.Second
	// rangePage is how many keys one request lists; the pages of a listing are read at one revision.
	rangePage = 1000
	// restartsOfRange is how often a current listing begins anew because its revision was compacted between two pages.
	restartsOfRange = 3
)

// DialEtcd makes a client for etcd at some endpoints, host:port or URLs. It does not wait for a connection: whether etcd can
// be reached shows at the first call. Users, passwords and certificates are not supported yet.
//
// Left alone, the client library would send a write again when its status is DEADLINE_EXCEEDED or CANCELLED while the
// caller's context is not done, although the first copy may have reached etcd: a proxy between that resets the stream is
// enough. With a single attempt per call it never does.
func DialEtcd(endpoints []string) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("no etcd endpoint given")
	}
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 100*time.Millisecond, dialBackoff
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialKeepAliveTime: dialKeepAlive, DialKeepAliveTimeout: dialKeepAliveTimeout,
		MaxUnaryRetries: 1,
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: dialTimeout}),
			grpc.WithChainUnaryInterceptor(failFast),
		},
		Logger: zap.NewNop(), // what it would say comes back as errors
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", strings.Join(endpoints, ","), err)
	}
	client.Lease = RenewOnce(client.Lease, pb.NewLeaseClient(client.ActiveConnection()))
	return client, nil
}

// failFast makes a request fail at once while no endpoint can be reached; the library's default is to wait.
func failFast(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return call(ctx, method, request, answer, conn, append(options, grpc.WaitForReady(false))...)
}

// NewEtcd makes the metadata store of an etcd client, which stays the caller's to close. The client is one of DialEtcd or of
// package embedded: another may send a write twice, and break the promise of KV.Txn.
func NewEtcd(client *clientv3.Client) KV { return &etcd{client: client} }

type etcd struct{ client *clientv3.Client }

// bound gives one request its time.
func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, requestTimeout)
}

// read performs a request that changes nothing, and repeats it while another member may know the answer.
func (e *etcd) read(ctx context.Context, what string, request func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return e.classify(ctx, what, err) // a client inside the process may answer all the same
	}
	bounded, cancel := bound(ctx)
	defer cancel()
	var err error
	for range 1 + len(e.client.Endpoints()) {
		if err = e.classify(ctx, what, request(bounded)); !errors.Is(err, ErrUnavailable) || bounded.Err() != nil {
			return err
		}
	}
	return err
}

func (e *etcd) Txn(ctx context.Context, txn Txn) (TxnResult, error) {
	if err := txn.Validate(); err != nil {
		return TxnResult{}, err
	}
	if err := ctx.Err(); err != nil {
		return TxnResult{}, e.classify(ctx, "change metadata", err)
	}
	var compares []clientv3.Cmp
	for _, c := range txn.If {
		if c.Mod != 0 || c.Create == 0 {
			compares = append(compares, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Mod))
		}
		if c.Create != 0 {
			compares = append(compares, clientv3.Compare(clientv3.CreateRevision(c.Key), "=", c.Create))
		}
	}
	bounded, cancel := bound(ctx)
	defer cancel()
	answer, err := e.client.Txn(bounded).If(compares...).Then(etcdOps(txn.Then)...).Else(etcdOps(txn.Else)...).Commit()
	if err != nil {
		return TxnResult{}, e.classify(ctx, "change metadata", err)
	}
	out := TxnResult{Succeeded: answer.Succeeded, Revision: answer.Header.Revision}
	branch := txn.Else
	if answer.Succeeded {
		branch = txn.Then
	}
	for n, op := range branch {
		if op.Kind != Get {
			continue
		}
		var kv *KeyValue
		if kvs := answer.Responses[n].GetResponseRange().GetKvs(); len(kvs) > 0 {
			kv = keyValue(kvs[0])
		}
		out.Gets = append(out.Gets, kv)
	}
	return out, nil
}

func etcdOps(ops []Op) []clientv3.Op {
	out := make([]clientv3.Op, len(ops))
	for n, op := range ops {
		switch op.Kind {
		case Put:
			out[n] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease)))
		case Delete:
			out[n] = clientv3.OpDelete(op.Key)
		case Get:
			out[n] = clientv3.OpGet(op.Key)
		}
	}
	return out
}

func keyValue(kv *mvccpb.KeyValue) *KeyValue {
	return &KeyValue{Key: string(kv.Key), Value: kv.Value, Create: kv.CreateRevision, Mod: kv.ModRevision, Lease: LeaseID(kv.Lease)}
}

func (e *etcd) Get(ctx context.Context, key string) (*KeyValue, Revision, error) {
	var answer *clientv3.GetResponse
	err := e.read(ctx, "read "+key, func(ctx context.Context) (err error) {
		answer, err = e.client.Get(ctx, key)
		return err
	})
	switch {
	case err != nil:
		return nil, 0, err
	case len(answer.Kvs) == 0:
		return nil, answer.Header.Revision, nil
	}
	return keyValue(answer.Kvs[0]), answer.Header.Revision, nil
}

func (e *etcd) Range(ctx context.Context, prefix string, at Revision) ([]KeyValue, Revision, error) {
	for restarts := 0; ; restarts++ {
		kvs, revision, err := e.rangeAt(ctx, prefix, at)
		if at == 0 && errors.Is(err, ErrCompacted) && restarts < restartsOfRange {
			continue
		}
		return kvs, revision, err
	}
}

func (e *etcd) rangeAt(ctx context.Context, prefix string, at Revision) ([]KeyValue, Revision, error) {
	end := clientv3.GetPrefixRangeEnd(prefix)
	var out []KeyValue
	for from := prefix; ; {
		var answer *clientv3.GetResponse
		err := e.read(ctx, "list "+prefix, func(ctx context.Context) (err error) {
			// etcd lists in ascending order of keys by itself.
			answer, err = e.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(rangePage), clientv3.WithRev(at))
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if at == 0 {
			at = answer.Header.Revision // the pages that follow are read as of the first
		}
		for _, kv := range answer.Kvs {
			out = append(out, *keyValue(kv))
		}
		if !answer.More || len(answer.Kvs) == 0 {
			return out, at, nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}

func (e *etcd) Grant(ctx context.Context, ttl time.Duration) (LeaseID, error) {
	bounded, cancel := bound(ctx)
	defer cancel()
	answer, err := e.client.Grant(bounded, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, e.classify(ctx, "take a lease", err)
	}
	return LeaseID(answer.ID), nil
}

func (e *etcd) KeepAlive(ctx context.Context, lease LeaseID) (time.Duration, error) {
	bounded, cancel := bound(ctx)
	defer cancel()
	answer, err := e.client.KeepAliveOnce(clientv3.WithRequireLeader(bounded), clientv3.LeaseID(lease))
	if err != nil {
		return 0, e.classify(ctx, "renew the lease", err)
	}
	return time.Duration(answer.TTL) * time.Second, nil
}

func (e *etcd) Revoke(ctx context.Context, lease LeaseID) error {
	bounded, cancel := bound(ctx)
	defer cancel()
	_, err := e.client.Revoke(bounded, clientv3.LeaseID(lease))
	return e.classify(ctx, "give the lease back", err)
}

func (e *etcd) Compact(ctx context.Context, revision Revision) error {
	bounded, cancel := bound(ctx)
	defer cancel()
	_, err := e.client.Compact(bounded, revision)
	return e.classify(ctx, "compact history", err)
}

func (e *etcd) Status(ctx context.Context) (Status, error) {
	bounded, cancel := bound(ctx)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return Status{}, e.classify(ctx, "ask for the status of etcd", err) // a client inside the process does not look
	}
	err := status.Error(codes.Unavailable, "no endpoint")
	var answer *clientv3.StatusResponse
	for _, endpoint := range append(e.client.Endpoints(), "") {
		if endpoint == "" && e.client.ActiveConnection() != nil {
			break // only a client inside the process has no endpoint, and asks for none
		}
		if answer, err = e.client.Status(bounded, endpoint); err == nil {
			break
		}
	}
	if err != nil {
		return Status{}, e.classify(ctx, "ask for the status of etcd", err)
	}
	out := Status{
		DBSize: answer.DbSize, DBInUse: answer.DbSizeInUse, Version: answer.Version, ClusterID: answer.Header.ClusterId,
		Leader: answer.Leader != 0, Revision: answer.Header.Revision,
	}
	// Asking for the alarms themselves is a write, which fails when there is no leader.
	for _, alarm := range []string{pb.AlarmType_NOSPACE.String(), pb.AlarmType_CORRUPT.String()} {
		if slices.ContainsFunc(answer.Errors, func(e string) bool { return strings.Contains(e, alarm) }) {
			out.Alarms = append(out.Alarms, alarm)
		}
	}
	return out, nil
}

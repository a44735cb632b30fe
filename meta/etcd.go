package meta

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Settings of the connection to etcd.
const (
	dialKeepAlive        = 5 * time.Second
	dialKeepAliveTimeout = 3 * time.Second
	// rangePage is how many keys one request lists; the pages of a listing are read at one revision.
	rangePage = 2000
	// leaderPoll and the like are left to the client library: its retries are only for requests that it knows were not sent,
	// and for reads.
)

// DialEtcd makes a client for etcd at some endpoints, host:port or URLs. It does not wait for a connection: whether etcd can
// be reached shows at the first call.
func DialEtcd(endpoints []string) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("no etcd endpoint given")
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialKeepAliveTime: dialKeepAlive, DialKeepAliveTimeout: dialKeepAliveTimeout,
		Logger: zap.NewNop(), // what it would say comes back as errors
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", strings.Join(endpoints, ","), err)
	}
	return client, nil
}

// NewEtcd makes the metadata store of an etcd client, which stays the caller's to close.
//
// The client library repeats a request only when it knows that the request never left, or when it only reads; a write whose
// answer is missing comes back as an error, in doubt, as KV promises. A test cuts the connection to make sure.
func NewEtcd(client *clientv3.Client) KV { return &etcd{client: client} }

type etcd struct{ client *clientv3.Client }

func (e *etcd) Txn(ctx context.Context, txn Txn) (TxnResult, error) {
	if err := txn.Validate(); err != nil {
		return TxnResult{}, err
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
	answer, err := e.client.Txn(ctx).If(compares...).Then(etcdOps(txn.Then)...).Else(etcdOps(txn.Else)...).Commit()
	if err != nil {
		return TxnResult{}, e.classify("change metadata", err)
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
	answer, err := e.client.Get(ctx, key)
	if err != nil {
		return nil, 0, e.classify("read "+key, err)
	}
	if len(answer.Kvs) == 0 {
		return nil, answer.Header.Revision, nil
	}
	return keyValue(answer.Kvs[0]), answer.Header.Revision, nil
}

func (e *etcd) Range(ctx context.Context, prefix string, at Revision) ([]KeyValue, Revision, error) {
	end := clientv3.GetPrefixRangeEnd(prefix)
	var out []KeyValue
	for from := prefix; ; {
		options := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(rangePage), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend)}
		if at > 0 {
			options = append(options, clientv3.WithRev(at))
		}
		answer, err := e.client.Get(ctx, from, options...)
		if err != nil {
			return nil, 0, e.classify("list "+prefix, err)
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
	answer, err := e.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, e.classify("take a lease", err)
	}
	return LeaseID(answer.ID), nil
}

func (e *etcd) KeepAlive(ctx context.Context, lease LeaseID) (time.Duration, error) {
	answer, err := e.client.KeepAliveOnce(ctx, clientv3.LeaseID(lease))
	if err != nil {
		return 0, e.classify("renew the lease", err)
	}
	return time.Duration(answer.TTL) * time.Second, nil
}

func (e *etcd) Revoke(ctx context.Context, lease LeaseID) error {
	_, err := e.client.Revoke(ctx, clientv3.LeaseID(lease))
	return e.classify("give the lease back", err)
}

func (e *etcd) Compact(ctx context.Context, revision Revision) error {
	_, err := e.client.Compact(ctx, revision)
	return e.classify("compact history", err)
}

func (e *etcd) Status(ctx context.Context) (Status, error) {
	endpoints := e.client.Endpoints()
	if len(endpoints) == 0 {
		return Status{}, fmt.Errorf("ask for the status of etcd: %w: no endpoint", ErrUnavailable)
	}
	var answer *clientv3.StatusResponse
	var err error
	for _, endpoint := range endpoints {
		if answer, err = e.client.Status(ctx, endpoint); err == nil {
			break
		}
	}
	if err != nil {
		return Status{}, e.classify("ask for the status of etcd", err)
	}
	out := Status{
		DBSize: answer.DbSize, DBInUse: answer.DbSizeInUse, Version: answer.Version, ClusterID: answer.Header.ClusterId,
		Leader: answer.Leader != 0, Revision: answer.Header.Revision,
	}
	alarms, err := e.client.AlarmList(ctx)
	if err != nil {
		return out, e.classify("ask for the alarms of etcd", err)
	}
	for _, a := range alarms.Alarms {
		out.Alarms = append(out.Alarms, a.Alarm.String())
	}
	return out, nil
}

// classify turns what the client library says into the errors that callers act on, and says where and what to do.
func (e *etcd) classify(what string, err error) error {
	if err == nil {
		return nil
	}
	where := strings.Join(e.client.Endpoints(), ",")
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return fmt.Errorf("%s: %w: %w", what, ErrCompacted, err)
	case errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Errorf("%s: %w: %w", what, ErrFutureRevision, err)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%s: %w: %w", what, ErrLeaseGone, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%s: %w: %w; compact and defragment etcd at %s, then disarm the alarm", what, ErrNoSpace, err, where)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%s: %w: %w", what, ErrTooLarge, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	}
	switch status.Code(err) { //nolint:exhaustive // the others are not about reaching etcd
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Internal:
		return fmt.Errorf("%s: %w: etcd at %s: %w", what, ErrUnavailable, where, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w: etcd at %s did not answer in time: %w", what, ErrUnavailable, where, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Requests about what is not here: access rules, quotas, transactions, replicas that move. Tools ask them all the same, and some show nothing at all
// when one of them is not answered.

func absentAPIs() []api {
	return []api{
		{key: int16(kmsg.DescribeACLs), min: 1, max: 3, serve: simple(serveDescribeACLs)},
		{key: int16(kmsg.ListPartitionReassignments), min: 0, max: 0, serve: simple(serveListPartitionReassignments)},
		{key: int16(kmsg.DescribeClientQuotas), min: 0, max: 1, serve: simple(serveDescribeClientQuotas)},
		{key: int16(kmsg.DescribeTransactions), min: 0, max: 0, serve: simple(serveDescribeTransactions)},
		{key: int16(kmsg.ListTransactions), min: 0, max: 2, serve: simple(serveListTransactions)},
	}
}

// serveDescribeACLs answers as a broker of Kafka's without an authorizer does.
func serveDescribeACLs(context.Context, *call, *kmsg.DescribeACLsRequest) (*kmsg.DescribeACLsResponse, error) {
	out := kmsg.NewPtrDescribeACLsResponse()
	err := refuse(kerr.SecurityDisabled, "nobody is asked who may do what: there are no access rules")
	out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
	return out, nil
}

// serveListPartitionReassignments lists none: a partition has one replica, and moves in a moment.
func serveListPartitionReassignments(context.Context, *call, *kmsg.ListPartitionReassignmentsRequest) (*kmsg.ListPartitionReassignmentsResponse, error) {
	return kmsg.NewPtrListPartitionReassignmentsResponse(), nil
}

func serveDescribeClientQuotas(context.Context, *call, *kmsg.DescribeClientQuotasRequest) (*kmsg.DescribeClientQuotasResponse, error) {
	out := kmsg.NewPtrDescribeClientQuotasResponse()
	out.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // none, and not null, which means an error
	return out, nil
}

func serveListTransactions(context.Context, *call, *kmsg.ListTransactionsRequest) (*kmsg.ListTransactionsResponse, error) {
	return kmsg.NewPtrListTransactionsResponse(), nil
}

func serveDescribeTransactions(_ context.Context, _ *call, q *kmsg.DescribeTransactionsRequest) (*kmsg.DescribeTransactionsResponse, error) {
	if len(q.TransactionalIDs) > maxNamedTopics {
		return nil, errTooMany("transactional ids", len(q.TransactionalIDs), maxNamedTopics)
	}
	out := kmsg.NewPtrDescribeTransactionsResponse()
	for _, id := range q.TransactionalIDs {
		m := kmsg.NewDescribeTransactionsResponseTransactionState()
		m.TransactionalID, m.ErrorCode = id, kerr.TransactionalIDNotFound.Code
		out.TransactionStates = append(out.TransactionStates, m)
	}
	return out, nil
}

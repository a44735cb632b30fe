package kafka

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// serve serves one kind of request. It is called by the goroutine that handles the connection, in the order of the requests, and either answers
// before it returns or sees to it that the call is answered later. ctx ends when the server drains or the client is gone: whoever waits stops
// waiting then, and answers with what there is. An error ends the connection.
type serve func(ctx context.Context, k *call) error

// api is one kind of request.
type api struct {
	key      int16
	name     string
	min, max int16 // the versions that are served
	// maxBytes caps its frames.
	maxBytes int
	// skim, for kinds whose frames may be large, counts the lists of a body before anything is made of them.
	skim func(body []byte, version int16) error
	// patience, for kinds that are answered late, is how long a client wants to wait for its answer.
	patience func(kmsg.Request) time.Duration
	serve    serve
}

func (a *api) request() kmsg.Request { return kmsg.RequestForKey(a.key) }

// Sizes of frames.
const (
	smallFrame = 1 << 20
	// groupFrame is for a leader that brings the assignments of its whole group, and for commits of thousands of partitions.
	groupFrame = 4 << 20
	// produceFrame is what Kafka's brokers take unless they are told otherwise (socket.request.max.bytes), and what clients fill that send the batches
	// of many partitions in one request.
	produceFrame = 100 << 20
)

// apis are the kinds that are served, by key.
var apis map[int16]*api

// The table is filled at start-up and not changed after it: some of those who serve read it.
func init() {
	apis = make(map[int16]*api)
	for _, family := range [][]api{metadataAPIs(), produceAPIs(), fetchAPIs(), offsetAPIs(), topicAPIs(), configAPIs(), groupAPIs(), groupAdminAPIs(), consumerGroupAPIs(), clusterAPIs()} {
		for _, a := range family {
			if a.maxBytes == 0 {
				a.maxBytes = smallFrame
			}
			if a.name == "" {
				a.name = kmsg.NameForKey(a.key)
			}
			if apis[a.key] != nil {
				panic(fmt.Sprintf("kafka: %s is served twice", a.name))
			}
			if most := a.request().MaxVersion(); a.max > most {
				panic(fmt.Sprintf("kafka: %s version %d is above %d, the last that is known", a.name, a.max, most))
			}
			apis[a.key] = &a
		}
	}
}

// maxFrame is how large a frame of a kind may be.
func maxFrame(key int16) int {
	if a := apis[key]; a != nil {
		return a.maxBytes
	}
	return smallFrame
}

// offered lists the kinds for ApiVersions.
func offered() []kmsg.ApiVersionsResponseApiKey {
	out := make([]kmsg.ApiVersionsResponseApiKey, 0, len(apis))
	for _, a := range apis {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
		if a.key == int16(kmsg.Produce) {
			k.MinVersion = 0 // see the package's doc
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b kmsg.ApiVersionsResponseApiKey) int { return int(a.ApiKey) - int(b.ApiKey) })
	return out
}

// simple serves a request that is answered at once, by a function from its type to its answer's.
func simple[Q kmsg.Request, A kmsg.Response](f func(ctx context.Context, k *call, request Q) (A, error)) serve {
	return func(ctx context.Context, k *call) error {
		request := requestOf[Q](k)
		if err := k.weigh(); err != nil {
			return err
		}
		answer, err := f(ctx, k, request)
		if err != nil {
			return err
		}
		return k.answerLarge(k.conn.ctx, answer)
	}
}

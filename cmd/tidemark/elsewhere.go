package main

import (
	"errors"
	"net/http"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// elsewhere answers for the services of the role ingest in a process that has it not, so that whoever took the wrong address is told.
type elsewhere struct{ writer *connect.ErrorWriter }

func newElsewhere() elsewhere { return elsewhere{connect.NewErrorWriter()} }

// Names is empty: nothing of it is served.
func (elsewhere) Names() []string { return nil }

// Paths are those of the services that are not here.
func (elsewhere) Paths() []string {
	return []string{
		"/" + tidemarkv1connect.TopicServiceName + "/", "/" + tidemarkv1connect.ProduceServiceName + "/",
		"/" + tidemarkv1connect.ConsumeServiceName + "/", "/" + tidemarkv1connect.GroupServiceName + "/",
		"/" + tidemarkv1connect.ClusterServiceName + "/", "/v1/topics/",
	}
}

// Drain has nothing to end.
func (elsewhere) Drain() {}

var errElsewhere = errors.New("this process answers queries and nothing else (--roles query): ask a node that has the role ingest")

// ServeHTTP says where not to ask.
func (e elsewhere) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e.writer.IsSupported(r) {
		_ = e.writer.Write(w, r, connect.NewError(connect.CodeUnimplemented, errElsewhere)) // the only error is a client that is gone
		return
	}
	http.Error(w, errElsewhere.Error(), http.StatusNotFound)
}

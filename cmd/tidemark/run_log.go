package main

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// logRole is what a process with the role ingest serves: every call about the log and about consumer groups, whichever node leads
// or coordinates. It is there from the moment when the port opens; until the node is, calls are told what that waits for.
type logRole struct {
	router   *ingest.Router
	stored   *lateGroupStore
	groups   *ingest.Groups
	services *ingest.Services
}

func (p *nodeProcess) openLog(interceptors []connect.Interceptor) (_ *logRole, err error) {
	r := &logRole{stored: &lateGroupStore{}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	r.router, err = ingest.NewRouter(ingest.RouterConfig{
		Self: meta.NodeID(p.id.node), Node: p.late.get, Clock: p.deps.clock, Logger: p.deps.logger, Telemetry: p.measures,
	})
	if err != nil {
		return nil, err
	}
	r.groups, err = ingest.NewGroups(ingest.GroupsConfig{
		Store: r.stored, Seat: p.late.groupSeat, Clock: p.deps.clock, Random: p.deps.random, Logger: p.deps.logger,
	})
	if err != nil {
		return nil, err
	}
	r.services, err = ingest.NewServices(ingest.ServicesConfig{
		Node: r.router, Cluster: r.router, Clock: p.deps.clock, Logger: p.deps.logger, Telemetry: p.measures, Interceptors: interceptors,
		More: []ingest.Mount{{
			Name: ingest.GroupServiceName, MaxMessage: ingest.MaxGroupMessage,
			Handler: func(closing <-chan struct{}, options ...connect.HandlerOption) (string, http.Handler) {
				return ingest.NewGroupService(ingest.GroupServiceConfig{
					Groups: r.groups, Log: r.router, Peers: r.router.Peers(), Clock: p.deps.clock, Logger: p.deps.logger, Closing: closing, Options: options,
				})
			},
		}},
	})
	return r, err
}

// close ends the services first and what they stand on after them.
func (r *logRole) close() {
	if r.services != nil {
		r.services.Close()
	}
	if r.groups != nil {
		r.groups.Close()
	}
	if r.router != nil {
		r.router.Close()
	}
}

// greet tells, once the node is ready, what its operator may have forgotten.
func (p *nodeProcess) greet(ctx context.Context, node *ingest.Node) {
	if node.WaitReady(ctx) != nil {
		return
	}
	seat, err := node.GroupSeat()
	if err != nil {
		return
	}
	self := meta.NodeID(p.id.node)
	if seat.Index.Drains()[self].Wanted {
		p.deps.logger.Warn("this node is being drained, so it leads nothing and is given nothing",
			"node", self, "next", "tidemark cluster drain "+string(self)+" --cancel")
	}
	url := p.advertised()
	for _, other := range seat.Index.Nodes() {
		if other.ID != self && strings.TrimRight(other.HTTP, "/") == strings.TrimRight(url, "/") {
			p.deps.logger.Warn("another node advertises the same address, so calls that are for it come here",
				"node", self, "other", other.ID, "http", url, "next", "give each node its own --http and --advertise")
		}
	}
	alone := !slices.ContainsFunc(seat.Index.Nodes(), func(n meta.NodeInfo) bool { return n.ID != self })
	if !alone && p.cfg.advertise == "" && anyAddress(p.cfg.http) {
		p.deps.logger.Warn("other machines cannot reach this node where it advertises itself",
			"node", self, "http", url, "next", "give --advertise the URL by which they can")
	}
	p.greetKafka(seat.Index.Nodes())
}

// advertised is the URL by which others reach this process.
func (p *nodeProcess) advertised() string {
	if p.cfg.advertise != "" {
		return p.cfg.advertise
	}
	return p.URL()
}

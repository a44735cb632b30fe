package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/query"
	"github.com/tidemark-io/tidemark/query/duck"
)

// queryRole is the query service with what it stands on.
type queryRole struct {
	engine  query.Engine // nil in a build without one
	client  *client.Client
	service *query.Service
}

// bringQueries opens the query service and lets its callers in. Where it cannot be opened, a process that also holds a log goes on
// without it, and says why to whoever asks.
func (p *nodeProcess) bringQueries() error {
	role, err := p.openQueries()
	if err == nil {
		p.queries = role
		p.asked.arrive(role.service)
		return nil
	}
	err = fmt.Errorf("open the query service: %w", err)
	if !p.cfg.has(roleIngest) {
		return err
	}
	p.asked.fail(err)
	p.deps.logger.Error("no query will be answered, the log goes on", "cause", err)
	return nil
}

func (p *nodeProcess) openQueries() (_ *queryRole, err error) {
	r := &queryRole{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close(context.Background()))
		}
	}()
	r.engine, err = duck.Open(duck.Config{
		FS: p.deps.fs, TempDir: p.data.path("query", "temp"), TempBytes: int64(p.cfg.querySpace), Memory: int64(p.cfg.queryMemory),
	})
	if err != nil {
		if !errors.Is(err, query.ErrNoEngine) {
			return nil, err
		}
		p.deps.logger.Warn("queries are refused", "cause", err)
	}
	if r.client, err = p.logClient(); err != nil {
		return nil, err
	}
	r.service, err = query.New(query.Config{
		Engine: r.engine, Meta: p.client, Client: r.client, FS: p.deps.fs, Dir: p.data.path("query", "tail"),
		TailMemory: int64(p.cfg.tailMemory), TailDisk: int64(p.cfg.querySpace), Clock: p.deps.clock, Random: p.deps.random, Logger: p.deps.logger,
		Memory: duck.NewMemory(), Meters: p.telemetry.meters, Tracers: p.telemetry.tracers, Interceptors: p.interceptors,
		Limits: query.Limits{Concurrent: p.cfg.queriesBusy, Timeout: p.cfg.queryTimeout, MaxRows: p.cfg.queryRows},
	})
	return r, err
}

// logClient reads the log as any consumer does: through this process's own port, or that of a node with the ingest role.
func (p *nodeProcess) logClient() (*client.Client, error) {
	// This process's own port forwards what another node leads.
	cfg := client.Config{Server: p.URL(), DisableDirect: true, Clock: p.deps.clock, Logger: p.deps.logger, Random: p.deps.random}
	if !p.cfg.has(roleIngest) {
		cfg.HTTP = &http.Client{Transport: newIngestNodes(p.deps.clock, p.client.Nodes)}
	}
	return client.New(cfg)
}

// close ends the service first and what it stands on after it. Queries have until ctx ends to finish. What a query that cannot be
// ended still uses is left to the end of the process.
func (r *queryRole) close(ctx context.Context) error {
	var errs []error
	if r.service != nil {
		err := r.service.Close(ctx)
		if errors.Is(err, query.ErrStillRunning) {
			return err
		}
		errs = append(errs, err)
	}
	if r.client != nil {
		r.client.Close()
	}
	if r.engine != nil {
		errs = append(errs, r.engine.Close())
	}
	return errors.Join(errs...)
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/tier"
)

// Patience of a process at its ends.
const (
	etcdAttempt   = 3 * time.Second  // one try to reach etcd
	storeAttempt  = 20 * time.Second // one try to reach the object store
	retryLeast    = 200 * time.Millisecond
	retryMost     = 5 * time.Second
	callsPatience = 10 * time.Second // for calls in flight when we stop
	flushPatience = 20 * time.Second // for the last flush and for handing over; what is left stays in the log on disk
	sendPatience  = 3 * time.Second  // for the last telemetry
)

// processDeps is what a node process takes from outside.
type processDeps struct {
	fs      disk.FS
	clock   clock.Clock
	random  io.Reader
	environ []string
	logger  *slog.Logger
	// holder says for others who uses the data directory.
	holder string
	// connect opens the metadata store; see metadata.go.
	connect func(ctx context.Context, cfg serverConfig, data *dataDir, logger *slog.Logger) (metadata, error)
}

// metadata is an open metadata store with what ends it.
type metadata struct {
	kv    meta.KV
	where string // for people
	// reclaim gives free space of the database back; nil when others operate it.
	reclaim func(context.Context) error
	// failed delivers what ended the store by itself; nil when others operate it.
	failed <-chan error
	close  func() error
}

// nodeProcess is one node with everything around it: locked data directory, port, telemetry, metadata store, object store.
type nodeProcess struct {
	cfg       serverConfig
	deps      processDeps
	data      *dataDir
	id        identity
	telemetry *telemetry
	server    *server
	log       *logRole   // nil without the ingest role
	kafka     *kafkaRole // nil without the role ingest, or when it is off
	late      *lateNode
	asked     *lateQueries // nil without the query role
	measures  *ingest.Telemetry
	// interceptors see every call of the query service.
	interceptors []connect.Interceptor

	stop   context.CancelFunc
	work   sync.WaitGroup
	opened chan struct{} // closed when the node was opened or cannot be
	failed chan error    // room for one: what ended us

	// Written before opened is closed.
	node   *ingest.Node // nil without the ingest role
	meta   *metadata
	client *meta.Client
	// generation is how often the cluster was recovered, as etcd says.
	generation int64
	store      tier.Store
	queries    *queryRole // nil without the query role, or when it could not be opened
	// restored is closed when etcd has gone back in time.
	restored <-chan struct{}

	closeOnce sync.Once
	closeErr  error
}

// openNode starts a process. When it returns the port is open and says what the node still waits for: etcd and the object
// store may come later, and are waited for as long as it takes. What waiting cannot mend is an error, here or from wait.
func openNode(ctx context.Context, cfg serverConfig, deps processDeps) (_ *nodeProcess, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &nodeProcess{cfg: cfg, deps: deps, late: newLateNode(cfg.metadataName()), opened: make(chan struct{}), failed: make(chan error, 1)}
	var undo []func() error
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				err = keepFailure(err, f())
			}
		}
	}()

	listener, err := listenHTTP(ctx, cfg.http, cfg.insecure)
	if err != nil {
		return nil, err
	}
	undo = append(undo, listener.Close)
	var kafkaListener net.Listener
	if cfg.kafkaOn() {
		if kafkaListener, err = openingKafka.listen(ctx, cfg.kafka, cfg.insecure); err != nil {
			return nil, err
		}
		undo = append(undo, kafkaListener.Close)
	}
	if p.data, err = openDataDir(deps.fs, cfg.dataDir, fmt.Sprintf("%s at %s", deps.holder, baseURL(listener))); err != nil {
		return nil, err
	}
	undo = append(undo, p.data.close)
	if p.id, err = p.data.identify(cfg.nodeID, deps.random); err != nil {
		return nil, err
	}
	if p.telemetry, err = newTelemetry(ctx, deps.environ, p.id.node, cfg.zone, deps.logger); err != nil {
		return nil, err
	}
	undo = append(undo, func() error { return p.telemetry.close(context.WithoutCancel(ctx)) })
	if p.measures, err = ingest.NewTelemetry(p.telemetry.meters, p.telemetry.tracers); err != nil {
		return nil, fmt.Errorf("set up the node's metrics: %w", err)
	}
	var interceptors []connect.Interceptor
	if interceptors, err = p.telemetry.interceptors(); err != nil {
		return nil, err
	}
	var services []drainable
	ready := p.late.ready
	if cfg.has(roleIngest) {
		if p.log, err = p.openLog(interceptors); err != nil {
			return nil, err
		}
		undo = append(undo, func() error { p.log.close(); return nil })
		services = append(services, p.log.services)
	}
	if kafkaListener != nil {
		if p.kafka, err = p.openKafka(kafkaListener); err != nil {
			return nil, err
		}
	}
	if cfg.has(roleQuery) {
		p.asked = newLateQueries()
		p.interceptors = interceptors
		services = append(services, p.asked)
		if cfg.has(roleIngest) {
			ready = func() error { return cmp.Or(p.late.ready(), p.asked.settled()) }
		} else {
			ready = p.asked.ready
			services = append(services, newElsewhere())
		}
	}
	if p.kafka != nil {
		p.kafka.serve()
	}
	p.server = newServer(listener, services, serverOptions{
		hosts: cfg.hosts(), metrics: p.telemetry.handler, ready: ready, alive: p.late.alive,
		logger: deps.logger, panicked: p.measures.RequestPanicked,
	})

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	p.work.Go(func() { p.bring(running) })
	return p, nil
}

// keepFailure adds what went wrong while undoing, without hiding what the user should see.
func keepFailure(err, more error) error {
	if more == nil {
		return err
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return &failure{code: f.code, next: f.next, err: fmt.Errorf("%w; then %w", f.err, more)}
	}
	return errors.Join(err, more)
}

// URL is how clients on this machine reach the process.
func (p *nodeProcess) URL() string { return p.server.URL() }

// bring opens the node, however long that takes, and watches it.
func (p *nodeProcess) bring(ctx context.Context) {
	node, err := p.reach(ctx)
	if err == nil && node != nil {
		p.node = node
		p.log.stored.arrive(p.client)
		p.late.arrive(node)
		p.work.Go(func() { p.greet(ctx, node) })
	}
	if err == nil && p.asked != nil {
		err = p.bringQueries()
	}
	if err != nil && ctx.Err() == nil {
		p.waitFor(err) // before opened, or whoever waits for it would be told an older cause
	}
	close(p.opened)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		p.failed <- err
		return
	}
	var ended <-chan struct{}
	if node != nil {
		ended = node.Done()
	}
	select {
	case <-ended:
		if cause := node.Err(); cause != nil {
			p.failed <- stoppedByItself(cause)
		}
	case <-p.restored:
		p.failed <- fail(exitFailed, nextAfterRestore, "%s: %w", p.meta.where, meta.ErrRestored)
	case cause := <-p.meta.failed:
		p.failed <- fail(exitFailed, "start it again when that is mended: what was acknowledged is kept", "%s stopped: %w", p.meta.where, cause)
	case err := <-p.server.failed():
		if err != nil {
			p.failed <- fmt.Errorf("serve HTTP: %w", err)
		}
	case err := <-p.kafka.failed():
		if err != nil {
			p.failed <- fmt.Errorf("serve Kafka's clients: %w", err)
		}
	case <-ctx.Done():
	}
}

// nextAfterRestore is what to do when etcd is behind what it once was.
const nextAfterRestore = "bring back the etcd that has the present state, or recover the cluster with tidemark cluster recover; nothing was written to this one"

// stoppedByItself gives the end of a node its next step.
func stoppedByItself(cause error) error {
	next := "its log names the cause; start it again when that is mended: what was acknowledged is kept"
	if _, held := errors.AsType[*meta.HeldError](cause); held {
		next = "another data directory holds this node's name: stop that node, or give this one another name with --node-id and a directory of its own"
	}
	if errors.Is(cause, meta.ErrDiskChanged) {
		next = "bring back the data directory it had; when that is lost, `tidemark cluster forget-node` on another node says what goes with it"
	}
	return fail(exitFailed, next, "the node stopped: %w", cause)
}

// reach tries to open the node until it is open or waiting cannot help, and logs each change of the cause once.
func (p *nodeProcess) reach(ctx context.Context) (*ingest.Node, error) {
	wait := retryLeast
	for {
		node, err := p.try(ctx)
		if err == nil || ctx.Err() != nil {
			return node, err
		}
		if !mayPass(err) {
			return nil, err
		}
		if p.waitFor(err) {
			p.deps.logger.Warn("waiting; the node starts by itself when this passes", "cause", oneLine(err.Error()))
		}
		timer := p.deps.clock.NewTimer(wait)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		wait = min(2*wait, retryMost)
	}
}

// mayPass tells whether a start that failed may succeed later without anybody starting us again.
func mayPass(err error) bool {
	for _, cause := range []error{
		meta.ErrUnavailable, meta.ErrNoSpace, tier.ErrUnavailable, tier.ErrDenied, tier.ErrNoBucket, tier.ErrNoSpace,
		disk.ErrNoSpace, context.DeadlineExceeded,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// waitFor tells callers what the process waits for; true when that is news.
func (p *nodeProcess) waitFor(cause error) bool {
	if p.asked != nil {
		p.asked.waitFor(cause)
	}
	return p.late.waitFor(cause)
}

// try opens metadata store and object store, makes sure that data directory, etcd and store are of one cluster, and opens
// the node; nil without the ingest role, which needs no object store.
func (p *nodeProcess) try(ctx context.Context) (*ingest.Node, error) {
	if p.meta == nil {
		m, err := p.deps.connect(ctx, p.cfg, p.data, p.deps.logger)
		if err != nil {
			return nil, err
		}
		p.meta = &m
		history := meta.NewCompactor(meta.CompactorConfig{KV: m.kv, Clock: p.deps.clock, Logger: p.deps.logger, Reclaim: m.reclaim})
		p.work.Go(func() { history.Run(ctx) })
	}
	seen, err := p.seen(ctx)
	if err != nil {
		return nil, err
	}
	client, err := meta.New(meta.Config{
		KV: p.meta.kv, Cluster: p.cfg.cluster, Clock: p.deps.clock, Random: p.deps.random, Logger: p.deps.logger,
		LowestRevision: seen.Revision, EtcdCluster: seen.EtcdCluster,
	})
	if err != nil {
		return nil, fmt.Errorf("use %s: %w", p.meta.where, err)
	}
	etcdCtx, cancel := context.WithTimeout(ctx, etcdAttempt)
	defer cancel()
	info, err := client.EnsureCluster(etcdCtx, p.id.cluster)
	if foreign, ok := errors.AsType[*meta.ForeignClusterError](err); ok {
		held := "none, as if it had been emptied"
		if foreign.Have != "" {
			held = "cluster " + foreign.Have
		}
		return nil, fail(exitFailed, "start it with the etcd and --cluster of its own cluster, or with another --data-dir",
			"data directory %s is of cluster %s, but %s holds %s", p.cfg.dataDir, foreign.Want, p.meta.where, held)
	}
	if errors.Is(err, meta.ErrRestored) {
		return nil, fail(exitFailed, nextAfterRestore, "%s: %w", p.meta.where, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's identity from %s: %w", p.meta.where, err)
	}
	p.client = client
	if !p.cfg.has(roleIngest) {
		if err := p.joinCluster(info.ID); err != nil {
			return nil, err
		}
		p.watchEtcd(ctx)
		return nil, nil
	}
	storeCtx, cancel := context.WithTimeout(ctx, storeAttempt)
	defer cancel()
	if p.store == nil {
		p.store, err = tier.Open(storeCtx, p.cfg.storeURL(), tier.Options{FS: p.deps.fs, Clock: p.deps.clock, S3Endpoint: p.cfg.s3Endpoint, Getenv: p.getenv})
		if err != nil {
			return nil, fmt.Errorf("open the object store: %w", err)
		}
	}
	if err := tier.ClaimBucket(storeCtx, p.store, info.ID); err != nil {
		if _, foreign := errors.AsType[*tier.ForeignError](err); foreign {
			return nil, fail(exitFailed, "give --store a bucket or prefix of its own", "object store %s: %w", p.cfg.storeURL(), err)
		}
		return nil, fmt.Errorf("use the object store %s: %w", p.cfg.storeURL(), err)
	}
	if err := p.joinCluster(info.ID); err != nil {
		return nil, err
	}
	if err := p.checkBrokerID(etcdCtx); err != nil {
		return nil, err
	}
	node, err := ingest.Open(ingest.Config{
		Node: meta.NodeID(p.id.node), Disk: p.id.disk, LogDir: p.data.path("wal"), FlushInterval: p.cfg.flushEvery(), GarbageGrace: p.cfg.garbageGrace(),
		Info: meta.NodeInfo{HTTP: p.advertised(), Kafka: p.advertisedKafka(), Zone: p.cfg.zone, Roles: p.cfg.roles, Version: readVersion().Version},
	}, ingest.Dependencies{
		FS: p.deps.fs, Clock: p.deps.clock, Store: p.store, Meta: client, Random: p.deps.random, Logger: p.deps.logger, Telemetry: p.measures,
	})
	if err != nil {
		return nil, fmt.Errorf("open the node: %w", err)
	}
	p.watchEtcd(ctx)
	return node, nil
}

// joinCluster writes into the data directory which cluster it belongs to, the first time.
func (p *nodeProcess) joinCluster(id string) error {
	if p.id.cluster != "" {
		return nil
	}
	if err := p.data.write(clusterFile, id); err != nil {
		return err
	}
	p.id.cluster = id
	return nil
}

// watchEtcd remembers how far etcd has come, and notices when it goes back.
func (p *nodeProcess) watchEtcd(ctx context.Context) {
	client := p.client
	p.restored = client.Restored()
	p.work.Go(func() { p.keepSeen(ctx, client) })
}

// getenv reads the environment that the process was given.
func (p *nodeProcess) getenv(name string) string {
	for _, e := range p.deps.environ {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// waitReady waits until the node serves, has failed, or ctx ends.
func (p *nodeProcess) waitReady(ctx context.Context) error {
	select {
	case <-p.opened:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.node != nil {
		return p.node.WaitReady(ctx)
	}
	if !p.cfg.has(roleIngest) {
		return p.asked.ready()
	}
	return p.late.ready()
}

// wait returns nil when ctx ends, or earlier the error that ended the process by itself.
func (p *nodeProcess) wait(ctx context.Context) error {
	select {
	case err := <-p.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// close stops cleanly: the node flushes what it holds and hands over what it leads, streams end, calls finish, the directory is free again.
// Safe to call twice.
func (p *nodeProcess) close() error {
	p.closeOnce.Do(func() { p.closeErr = p.shutdown() })
	return p.closeErr
}

// endCalls ends what clients of both protocols have under way, in time as long as ctx allows.
func (p *nodeProcess) endCalls(ctx context.Context) error {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		if p.kafka != nil {
			p.kafka.close(ctx)
		}
	}()
	err := p.server.close(ctx)
	<-drained
	return err
}

func (p *nodeProcess) shutdown() error {
	within := func(d time.Duration, f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		return f(ctx)
	}
	select {
	case <-p.opened:
	default: // it is still looking for etcd or the object store
		p.stop()
		<-p.opened
	}
	var errs []error
	// The node hands over while its port is still open: consumers read on from it, and calls that it does not take any more go from here to
	// those who do. New queries are refused before, for they would find less and less here.
	if p.asked != nil {
		p.asked.Drain()
	}
	if p.node != nil {
		if err := within(flushPatience, p.node.Close); err != nil && p.late.alive() == nil {
			errs = append(errs, fmt.Errorf("close the node: %w", err))
		}
	}
	// A caller that does not come to an end is cut off, which is no error of ours.
	if err := within(callsPatience, p.endCalls); err != nil {
		p.deps.logger.Warn("some calls were cut off", "cause", err)
	}
	if p.log != nil {
		p.log.close()
	}
	p.stop()
	p.work.Wait()
	if p.queries != nil {
		errs = append(errs, within(callsPatience, p.queries.close))
	}
	if store, ok := p.store.(io.Closer); ok {
		errs = append(errs, store.Close())
	}
	if p.meta != nil {
		errs = append(errs, p.meta.close())
	}
	if err := within(sendPatience, p.telemetry.close); err != nil {
		p.deps.logger.Warn("the last telemetry could not be sent", "cause", err)
	}
	errs = append(errs, p.data.close())
	return errors.Join(errs...)
}

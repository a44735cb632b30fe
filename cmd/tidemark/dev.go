package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/disk"
)

// readyPatience is how long dev waits for its own node: everything it needs is in the process.
const readyPatience = time.Minute

func newDevCommand(a *app) *cobra.Command {
	cfg := serverConfig{cluster: "dev", roles: []string{roleIngest, roleQuery}, kafkaAutoCreate: true}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole Tidemark in one process, for development",
		Long: `Run a whole Tidemark in one process: a node, an embedded etcd, and an object store in
the data directory. The data stays when it stops; start it again and it goes on. Kafka's clients
find it on 127.0.0.1:9092, and make topics by using them.

Ctrl-C or SIGTERM stops it cleanly; a second one kills it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), cfg) },
	}
	f := cmd.Flags()
	f.StringVar(&cfg.dataDir, "data-dir", "./tidemark-data", "`DIR` for everything that is kept")
	f.BoolVar(&cfg.demo, "demo", false, "make the topics orders and access_log and write to them all the time")
	a.settings.register(cmd, f, "data-dir", "demo")
	cfg.commonFlags(a, cmd)
	return cmd
}

// processDeps are the real outside things.
func (a *app) processDeps(logLevel string) (processDeps, error) {
	logger, err := newLogger(a.stderr, a.stderrTTY, logLevel)
	if err != nil {
		return processDeps{}, err
	}
	return processDeps{
		fs: disk.OS(), clock: a.clock, random: systemRandom, environ: a.environ(), logger: logger,
		holder: fmt.Sprintf("process %d", os.Getpid()), connect: openMetadata,
	}, nil
}

// dev runs until ctx ends.
func (a *app) dev(ctx context.Context, cfg serverConfig) error {
	deps, err := a.processDeps(cfg.logLevel)
	if err != nil {
		return err
	}
	p, err := openNode(ctx, cfg, deps)
	if err != nil {
		return err
	}
	return closing(p, a.serveDev(ctx, p))
}

func (a *app) serveDev(ctx context.Context, p *nodeProcess) error {
	ready, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if err := p.waitReady(ready); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if !p.cfg.demo {
		if err := writeBanner(a.stdout, p); err != nil {
			return err
		}
		return p.wait(ctx)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- runDemo(running, p.URL(), a.clock, p.deps.logger, func() { close(begun) }) }()
	// What the banner invites to is there when it is printed.
	var err, demoErr error
	select {
	case <-begun:
	case demoErr = <-ended:
		ended <- demoErr
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		err = writeBanner(a.stdout, p)
	}
	if err == nil {
		err = p.wait(ctx)
	}
	stop()
	if demoErr = <-ended; demoErr != nil && !errors.Is(demoErr, context.Canceled) {
		p.deps.logger.Warn("the demo ended", "cause", demoErr)
	}
	return err
}

// closing closes a process behind what ended it.
func closing(p *nodeProcess, err error) error {
	if closeErr := p.close(); closeErr != nil {
		return keepFailure(err, fmt.Errorf("stop: %w", closeErr))
	}
	return err
}

package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/embedded"
)

// openMetadata connects to the etcd that the configuration names, or starts one in the data directory when it names none.
func openMetadata(ctx context.Context, cfg serverConfig, data *dataDir, logger *slog.Logger) (metadata, error) {
	if len(cfg.etcd) == 0 {
		if !logger.Enabled(ctx, slog.LevelDebug) {
			// What it logs at its start and end sounds like trouble and is none; real trouble comes back from its calls.
			logger = nil
		}
		server, err := embedded.Start(embedded.Config{Dir: data.path("etcd"), Logger: logger})
		if err != nil {
			return metadata{}, fail(exitFailed, "its log lines name the cause; the data directory is kept as it is", "start the embedded etcd: %w", err)
		}
		return metadata{
			kv: server.KV(), where: cfg.metadataName(), reclaim: server.Reclaim, failed: server.Err(), close: server.Close,
		}, nil
	}
	where := cfg.metadataName()
	client, err := meta.DialEtcd(cfg.etcd)
	if err != nil {
		return metadata{}, usagef("check --etcd", "use %s: %w", where, err)
	}
	return metadata{kv: meta.NewEtcd(client), where: where, close: func() error {
		if err := client.Close(); err != nil {
			return fmt.Errorf("close the connection to %s: %w", where, err)
		}
		return nil
	}}, nil
}

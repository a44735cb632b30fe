package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newServeCommand(a *app) *cobra.Command {
	var cfg serverConfig
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node on an etcd and an object store",
		Long: `Run a node. Metadata is in etcd, data in the object store; the data directory holds the log
of what is not in the object store yet. For S3 the usual AWS_* variables give credentials and region.

etcd and the object store may come later: the node waits for them, /readyz says for what, and
it goes on by itself.

Nodes with the same --etcd, --cluster and --store share the partitions between them; each has a
--data-dir and, on one machine, an --http and a --kafka of its own. Where --http is no address by
which the others reach it, --advertise is; where --kafka is none by which Kafka's clients do,
--advertise-kafka is. A node that is stopped hands over what it leads.

With --roles query the process answers SQL and nothing else, Kafka's clients neither. It reads the log from a node with
the role ingest, which it finds in etcd, and needs no object store: a query can harm no log.`,
		Example: `  tidemark serve --data-dir /var/lib/tidemark --etcd http://10.0.0.5:2379 --store s3://logs/tidemark
  tidemark serve --data-dir ./d --etcd http://127.0.0.1:2379 --store s3://tidemark --s3-endpoint http://127.0.0.1:9000
  tidemark serve --data-dir ./n2 --etcd http://127.0.0.1:2379 --store s3://tidemark --node-id n2 --http 127.0.0.1:8641 --kafka 127.0.0.1:9093
  tidemark serve --roles query --data-dir ./q --etcd http://127.0.0.1:2379 --http 127.0.0.1:8642`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), cfg) },
	}
	f := cmd.Flags()
	f.StringVar(&cfg.dataDir, "data-dir", "", "`DIR` for the log on disk (needed)")
	f.StringSliceVar(&cfg.etcd, "etcd", nil, "`URL`s of etcd (needed)")
	f.StringVar(&cfg.store, "store", "", "object store: file:///PATH or s3://BUCKET/PREFIX (needed by the role ingest)")
	f.StringVar(&cfg.s3Endpoint, "s3-endpoint", "", "`URL` of an S3 service other than Amazon's")
	f.StringVar(&cfg.advertise, "advertise", "", "`URL` by which others reach this node; default is the address of --http")
	f.StringSliceVar(&cfg.roles, "roles", []string{roleIngest, roleQuery}, "what this process does: ingest, query, or both")
	f.StringVar(&cfg.nodeID, "node-id", "", "`NAME` of this node; default is drawn once and kept in the data directory")
	f.StringVar(&cfg.zone, "zone", "", "`NAME` of the availability zone")
	f.StringVar(&cfg.cluster, "cluster", "default", "`NAME` of the cluster inside etcd")
	a.settings.register(cmd, f, "data-dir", "etcd", "store", "s3-endpoint", "advertise", "roles", "node-id", "zone", "cluster")
	cfg.commonFlags(a, cmd)
	return cmd
}

// serve runs until ctx ends.
func (a *app) serve(ctx context.Context, cfg serverConfig) error {
	switch {
	case len(cfg.etcd) == 0:
		return usagef("give --etcd, or run `tidemark dev`, which brings its own", "the etcd to use is missing")
	case cfg.store == "" && cfg.has(roleIngest):
		return usagef("give --store s3://BUCKET/PREFIX or --store file:///PATH", "the object store is missing")
	}
	deps, err := a.processDeps(cfg.logLevel)
	if err != nil {
		return err
	}
	p, err := openNode(ctx, cfg, deps)
	if err != nil {
		return err
	}
	deps.logger.Info("the port is open", "http", p.URL(), "kafka", p.kafkaAddress(), "node", p.id.node, "cluster", cfg.cluster, "store", cfg.store)
	return closing(p, p.wait(ctx))
}

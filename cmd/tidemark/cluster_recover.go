package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/tier"
)

type recoverFlags struct {
	etcd       []string
	store      string
	s3Endpoint string
	cluster    string
	yes        bool
}

type recoveredJSON struct {
	Generation    int64             `json:"generation"`
	Partitions    int               `json:"partitions"`
	ProducersFrom int64             `json:"producer_ids_from"`
	Lost          []lostRangeJSON   `json:"lost"`
	Missing       []missingJSON     `json:"missing"`
	Topics        map[string]string `json:"topic_ids"`
}

type missingJSON struct {
	Object string `json:"object"`
	Blocks int    `json:"blocks"`
}

func newClusterRecoverCommand(a *app) *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make a cluster safe to use whose etcd was restored from a backup",
		Long: `Make a cluster safe to use whose etcd was restored from a backup.

Everything that was committed after the backup is lost: etcd says what is part of the log. What was
given out since may have been seen by somebody, so the end of every partition, every epoch and the
producer ids go forward, and nothing is given out twice. Readers step over the offsets between and
report them. Objects that records name and the store does not have any more are listed.

Stop every node first, restore etcd (etcdutl snapshot restore --bump-revision 1000000000
--mark-compacted), and wait until the leases of the backup have ended: seconds. No node joins until
the command has ended; when it was cut short, run it again.`,
		Example: `  tidemark cluster recover --etcd http://10.0.0.5:2379 --store s3://logs/tidemark --yes`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.recoverCluster(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.etcd, "etcd", nil, "`URL`s of the restored etcd (needed)")
	flags.StringVar(&f.store, "store", "", "object store of the cluster: file:///PATH or s3://BUCKET/PREFIX (needed)")
	flags.StringVar(&f.s3Endpoint, "s3-endpoint", "", "`URL` of an S3 service other than Amazon's")
	flags.StringVar(&f.cluster, "cluster", "default", "`NAME` of the cluster inside etcd")
	flags.BoolVarP(&f.yes, "yes", "y", false, "what was committed after the backup is lost: yes (needed)")
	a.settings.register(cmd, flags, "etcd", "store", "s3-endpoint", "cluster")
	return cmd
}

func (a *app) recoverCluster(ctx context.Context, f recoverFlags) error {
	switch {
	case len(f.etcd) == 0:
		return usagef("give --etcd", "the etcd that was restored is not named")
	case f.store == "":
		return usagef("give --store", "the object store of the cluster is not named")
	case !f.yes:
		return usagef("stop every node, then give --yes", "what was committed after the backup is lost by this")
	}
	deps, err := a.processDeps("warn")
	if err != nil {
		return err
	}
	dialled, err := meta.DialEtcd(f.etcd)
	if err != nil {
		return usagef("check --etcd", "use etcd: %w", err)
	}
	client, err := meta.New(meta.Config{KV: meta.NewEtcd(dialled), Cluster: f.cluster, Clock: a.clock, Random: deps.random, Logger: deps.logger})
	if err != nil {
		return errors.Join(err, dialled.Close())
	}
	store, err := tier.Open(ctx, f.store, tier.Options{FS: a.fs, Clock: a.clock, S3Endpoint: f.s3Endpoint})
	if err != nil {
		return errors.Join(fail(exitFailed, "check --store and --s3-endpoint", "open the object store: %w", err), dialled.Close())
	}
	report, err := client.Recover(ctx, func(ctx context.Context, r *meta.L0Record) (meta.L0Index, error) {
		return tier.ReadL0Index(ctx, store, r)
	}, func(ctx context.Context, object string) (bool, error) {
		_, err := store.Stat(ctx, object)
		if errors.Is(err, tier.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	})
	if closer, ok := store.(io.Closer); ok {
		err = errors.Join(err, closer.Close())
	}
	err = errors.Join(err, dialled.Close())
	if errors.Is(err, meta.ErrNodeAlive) {
		return fail(exitFailed, "no offset was moved; a lease of the backup ends by itself within its time, and a node that answers is not to be recovered", "%w", err)
	}
	if err != nil {
		return fail(exitFailed, "mend that and run it again: no node joins until it has ended", "%w", err)
	}
	return a.renderRecovered(report)
}

func (a *app) renderRecovered(r meta.RecoverReport) error {
	info := recoveredJSON{
		Generation: r.Generation, Partitions: r.Partitions, ProducersFrom: r.ProducersFrom, Lost: []lostRangeJSON{}, Missing: []missingJSON{}, Topics: map[string]string{},
	}
	v := view{columns: []string{"topic", "partition", "lost_from", "goes_on_at"}}
	for _, l := range r.Moved {
		info.Lost = append(info.Lost, lostRangeJSON{Topic: l.Topic, Partition: l.Partition.Partition, From: l.From, To: l.To})
		info.Topics[l.Topic] = l.Partition.Topic.String()
		v.rows = append(v.rows, []string{l.Topic, strconv.Itoa(int(l.Partition.Partition)), strconv.FormatInt(l.From, 10), strconv.FormatInt(l.To, 10)})
	}
	for _, m := range r.Missing {
		info.Missing = append(info.Missing, missingJSON{Object: m.Object, Blocks: len(m.Blocks)})
	}
	v.json = info
	v.plain = func(w io.Writer) error {
		if _, err := fmt.Fprintf(w, "Recovered, for the %d. time: %d partitions go on further up, producer ids at %d.\n\n", r.Generation-1, r.Partitions, r.ProducersFrom); err != nil {
			return err
		}
		if err := writeTable(w, v.columns, v.rows); err != nil {
			return err
		}
		for _, m := range r.Missing {
			if _, err := fmt.Fprintf(w, "missing: %s (%d blocks)\n", m.Object, len(m.Blocks)); err != nil {
				return err
			}
		}
		return nil
	}
	return a.render(v)
}

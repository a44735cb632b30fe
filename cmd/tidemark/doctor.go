package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/tier"
)

type doctorFlags struct {
	store      string
	s3Endpoint string
	etcd       []string
	dataDir    string
	http       string
	timeout    time.Duration
}

func newDoctorCommand(a *app) *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check store, etcd, disk, ports and clock for what a node relies on",
		Long: `Check store, etcd, disk, ports and clock for what a node relies on, with the flags
that the node would be given. Store and etcd are checked when they are named. It
writes a few small objects, keys and files, and removes them. Exit code 1 when a
check fails.`,
		Example: `  tidemark doctor
  tidemark doctor --store s3://bucket/prefix --etcd http://10.0.0.5:2379 --data-dir /var/lib/tidemark`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.store, "store", "", "check this object store: file:///path or s3://bucket/prefix")
	flags.StringVar(&f.s3Endpoint, "s3-endpoint", "", "`URL` of an S3 that is not Amazon's")
	flags.StringSliceVar(&f.etcd, "etcd", nil, "check this etcd: `URL[,URL]`")
	flags.StringVar(&f.dataDir, "data-dir", "./tidemark-data", "check the disk of this `DIR`")
	flags.StringVar(&f.http, "http", "127.0.0.1:8640", "check that `HOST:PORT` can be listened on")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long store and etcd may take, each")
	a.settings.register(cmd, flags, "store", "s3-endpoint", "etcd", "data-dir", "http")
	return cmd
}

// checkResult is one line of the doctor's table.
type checkResult struct {
	Area    string  `json:"area"`
	Check   string  `json:"check"`
	OK      bool    `json:"ok"`
	Detail  string  `json:"detail"`
	Fix     string  `json:"fix,omitempty"`
	Seconds float64 `json:"seconds"`
}

// checkup collects results.
type checkup struct {
	app     *app
	results []checkResult
}

// check runs one check of an area. fix is what to do when it fails.
func (c *checkup) check(area, name, fix string, run func() (detail string, err error)) bool {
	start := c.app.clock.Now()
	detail, err := run()
	r := checkResult{Area: area, Check: name, OK: err == nil, Detail: oneLine(detail), Seconds: c.app.clock.Now().Sub(start).Seconds()}
	if err != nil {
		r.Detail, r.Fix = oneLine(err.Error()), fix
	}
	c.results = append(c.results, r)
	return r.OK
}

func (a *app) doctor(ctx context.Context, f *doctorFlags) error {
	c := &checkup{app: a}
	token, err := probeToken(rand.Reader)
	if err != nil {
		return err
	}
	c.disk(f.dataDir, token)
	c.port(ctx, f.http)
	c.clock()
	if f.store != "" {
		bounded, cancel := context.WithTimeout(ctx, f.timeout)
		c.store(bounded, f.store, f.s3Endpoint, token)
		cancel()
	}
	if len(f.etcd) > 0 {
		bounded, cancel := context.WithTimeout(ctx, f.timeout)
		c.etcd(bounded, f.etcd, token)
		cancel()
	}
	if ctx.Err() != nil {
		return fail(exitInterrupted, "", "doctor: interrupted")
	}
	return c.render()
}

// probeToken makes names that no other probe has.
func probeToken(random io.Reader) (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("read random bytes: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

func (c *checkup) render() error {
	v := view{columns: []string{"area", "check", "result", "detail"}, json: c.results}
	failed := 0
	var fixes strings.Builder
	for _, r := range c.results {
		result := "OK"
		if !r.OK {
			result = "FAIL"
			failed++
			fmt.Fprintf(&fixes, "\n%s, %s: %s", r.Area, r.Check, r.Fix)
		}
		row := []string{r.Area, r.Check, result, r.Detail}
		if c.app.output == outputCSV {
			row = append(row, r.Fix)
		}
		v.rows = append(v.rows, row)
	}
	if c.app.output == outputCSV {
		v.columns = append(v.columns, "fix")
	}
	v.plain = func(w io.Writer) error {
		if err := writeTable(w, v.columns, v.rows); err != nil || failed == 0 {
			return err
		}
		_, err := fmt.Fprintf(w, "\nWhat to do:%s\n", fixes.String())
		return err
	}
	if err := c.app.render(v); err != nil {
		return err
	}
	if failed > 0 {
		return fail(exitFailed, "", "doctor: %d of %d checks failed", failed, len(c.results))
	}
	return nil
}

// store checks the object store with the probe that belongs to it, and its clock.
func (c *checkup) store(ctx context.Context, url, s3Endpoint, token string) {
	var s tier.Store
	opened := c.check("store", "open", "see `tidemark serve --help` for how --store is written; credentials come from AWS_*", func() (detail string, err error) {
		s, err = tier.Open(ctx, url, tier.Options{FS: c.app.fs, Clock: c.app.clock, S3Endpoint: s3Endpoint})
		return url, err
	})
	if !opened {
		return
	}
	if closer, ok := s.(io.Closer); ok {
		defer func() {
			if err := closer.Close(); err != nil {
				c.results = append(c.results, checkResult{Area: "store", Check: "close", Detail: oneLine(err.Error()), Fix: "look at the store's own logs"})
			}
		}()
	}
	reachable := true
	for _, finding := range tier.Probe(ctx, s, tier.ProbeConfig{Clock: c.app.clock, Random: rand.Reader}) {
		c.results = append(c.results, checkResult{
			Area: "store", Check: finding.Name, OK: finding.OK, Detail: oneLine(finding.Detail), Fix: oneLine(finding.Fix),
			Seconds: finding.Duration.Seconds(),
		})
		reachable = reachable && finding.OK
	}
	if reachable {
		c.check("store", "clock", "set the clock by NTP: S3 refuses requests that are signed a quarter of an hour off", func() (string, error) {
			return c.storeClock(ctx, s, "tidemark-probe/"+token+"-clock")
		})
	}
}

// maxSkew is how far the store's clock may be from ours: far less than what S3 refuses, far more than a request takes.
const maxSkew = time.Minute

func (c *checkup) storeClock(ctx context.Context, s tier.Store, name string) (string, error) {
	now := c.app.clock.Now()
	if err := s.Put(ctx, name, [][]byte{[]byte("clock")}); err != nil {
		return "", err
	}
	object, err := s.Stat(ctx, name)
	if deleteErr := s.Delete(ctx, name); err == nil {
		err = deleteErr
	}
	if err != nil {
		return "", err
	}
	skew := object.Modified.Sub(now).Round(time.Second)
	if skew.Abs() > maxSkew {
		return "", fmt.Errorf("the store's clock is %s from ours", skew)
	}
	return fmt.Sprintf("within %s of ours", skew.Abs()+time.Second), nil
}

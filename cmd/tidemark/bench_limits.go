package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
)

// machineLimits are what the machine itself can do, measured in the run in which a benchmark is: a figure means little
// without them.
type machineLimits struct {
	DiskWriteMBs float64       `json:"disk_write_mb_per_second"` // sequential, 1 MiB a write, fsynced at the end
	Fsync        latencyReport `json:"fsync"`                    // a 4 KiB write and its fsync
	LoopbackMBs  float64       `json:"loopback_mb_per_second"`   // one TCP connection, 64 KiB a write
}

// text is the limits for people, in lines.
func (l *machineLimits) text() string {
	return fmt.Sprintf("this machine\n  disk        %.1f MB/s sequential write\n  fsync       %s\n  loopback    %.1f MB/s, one connection\n",
		l.DiskWriteMBs, l.Fsync, l.LoopbackMBs)
}

const (
	limitFileBytes  = 256 << 20
	limitFsyncCount = 200
	limitFsyncTime  = 2 * time.Second
	limitTCPTime    = time.Second
)

// measureLimits measures disk and loopback one after the other, in about five seconds. It writes a file of 256 MiB into
// dir and removes it.
func measureLimits(ctx context.Context, fs disk.FS, clk clock.Clock, dir string) (machineLimits, error) {
	var l machineLimits
	if err := fs.MkdirAll(dir); err != nil {
		return l, fmt.Errorf("measure the disk: %w", err)
	}
	var err error
	if l.DiskWriteMBs, err = measureWrite(ctx, fs, clk, dir); err != nil {
		return l, fmt.Errorf("measure sequential writes in %s: %w", dir, err)
	}
	if l.Fsync, err = measureFsync(ctx, fs, clk, dir); err != nil {
		return l, fmt.Errorf("measure fsync in %s: %w", dir, err)
	}
	if l.LoopbackMBs, err = measureLoopback(ctx, clk); err != nil {
		return l, fmt.Errorf("measure loopback TCP: %w", err)
	}
	return l, nil
}

// withScratch runs use on a new file in dir, which it removes afterwards.
func withScratch(fs disk.FS, clk clock.Clock, dir string, use func(disk.File) error) (err error) {
	name := filepath.Join(dir, fmt.Sprintf("tidemark-scratch-%d", clk.Now().UnixNano()))
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), fs.Remove(name)) }()
	return use(f)
}

func measureWrite(ctx context.Context, fs disk.FS, clk clock.Clock, dir string) (mbs float64, err error) {
	chunk := make([]byte, 1<<20)
	fillNoise(chunk)
	err = withScratch(fs, clk, dir, func(f disk.File) error {
		start := clk.Now()
		for at := int64(0); at < limitFileBytes; at += int64(len(chunk)) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if _, err := f.WriteAt(chunk, at); err != nil {
				return err
			}
		}
		if err := f.Sync(); err != nil {
			return err
		}
		mbs = limitFileBytes / 1e6 / clk.Now().Sub(start).Seconds()
		return nil
	})
	return mbs, err
}

func measureFsync(ctx context.Context, fs disk.FS, clk clock.Clock, dir string) (latencyReport, error) {
	h := newLatencies()
	block := make([]byte, 4<<10)
	fillNoise(block)
	err := withScratch(fs, clk, dir, func(f disk.File) error {
		if err := f.Allocate(limitFsyncCount * int64(len(block))); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		begin := clk.Now()
		for i := range int64(limitFsyncCount) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			start := clk.Now()
			if start.Sub(begin) > limitFsyncTime {
				return nil
			}
			if _, err := f.WriteAt(block, i*int64(len(block))); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
			recordLatency(h, clk.Now().Sub(start))
		}
		return nil
	})
	return reportLatencies(h), err
}

func measureLoopback(ctx context.Context, clk clock.Clock) (float64, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = ln.Close() }() // it is only listened on for one connection
	type drained struct {
		n   int64
		err error
	}
	result := make(chan drained, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			result <- drained{err: err}
			return
		}
		defer func() { _ = conn.Close() }() // read to its end by then
		var d drained
		buf := make([]byte, 256<<10)
		for {
			n, err := conn.Read(buf)
			d.n += int64(n)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					d.err = err
				}
				result <- d
				return
			}
		}
	}()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return 0, errors.Join(err, ln.Close(), (<-result).err)
	}
	chunk := make([]byte, 64<<10)
	start := clk.Now()
	for clk.Now().Sub(start) < limitTCPTime && ctx.Err() == nil {
		if _, err = conn.Write(chunk); err != nil {
			break
		}
	}
	err = errors.Join(err, conn.Close())
	d := <-result
	seconds := clk.Now().Sub(start).Seconds()
	return float64(d.n) / 1e6 / seconds, errors.Join(err, d.err, ctx.Err())
}

// Latencies are kept in microseconds, to three digits, up to ten minutes.
const maxLatencyMicros = int64(10 * time.Minute / time.Microsecond)

func newLatencies() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatencyMicros, 3) }

// recordLatency counts d; what is out of range counts as the end of the range.
func recordLatency(h *hdrhistogram.Histogram, d time.Duration) {
	// The value is clamped into the histogram's range, which is its only reason to refuse one.
	_ = h.RecordValue(min(max(d.Microseconds(), 1), maxLatencyMicros))
}

// latencyReport are percentiles in milliseconds.
type latencyReport struct {
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

func reportLatencies(h *hdrhistogram.Histogram) latencyReport {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return latencyReport{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
}

func (r latencyReport) String() string {
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", millis(r.P50), millis(r.P90), millis(r.P99), millis(r.P999), millis(r.Max))
}

func millis(ms float64) string {
	switch {
	case ms >= 1000:
		return fmt.Sprintf("%.2f s", ms/1000)
	case ms >= 10:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

// fillNoise fills b with bytes that do not compress, the same at every call.
func fillNoise(b []byte) {
	x := uint64(0x9e3779b97f4a7c15)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
}

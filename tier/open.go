package tier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
)

// Options are what Open needs beside the URL.
type Options struct {
	FS         disk.FS     // for file:// stores
	Clock      clock.Clock // for pauses between attempts; nil is the system's
	S3Endpoint string      // --s3-endpoint; "" takes AWS_ENDPOINT_URL_S3, then AWS_ENDPOINT_URL
	// Getenv reads the AWS_* variables named here; nil is the process's environment. Credentials are found by the S3
	// library, which reads the environment itself.
	Getenv func(string) string
}

// Open opens the store that a --store URL names: file:///directory, or s3://bucket/prefix. The store may have Close.
func Open(ctx context.Context, storeURL string, opts Options) (Store, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv //nolint:forbidigo // the AWS_* variables are part of this seam
	}
	scheme, rest, ok := strings.Cut(storeURL, "://")
	if !ok {
		hint := ""
		if strings.HasPrefix(storeURL, "/") {
			hint = fmt.Sprintf("; did you mean file://%s?", storeURL)
		}
		return nil, fmt.Errorf("open store %q: want file:///directory or s3://bucket/prefix%s", storeURL, hint)
	}
	switch strings.ToLower(scheme) {
	case "file":
		dir, err := url.PathUnescape(rest)
		if err != nil {
			return nil, fmt.Errorf("open store %q: %w", storeURL, err)
		}
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("open store %q: the directory must be absolute, with three slashes: file:///%s is one at the root; for a relative one write file://$PWD/%s",
				storeURL, strings.TrimPrefix(rest, "./"), strings.TrimPrefix(rest, "./"))
		}
		if opts.FS == nil {
			return nil, fmt.Errorf("open store %q: no file system given", storeURL)
		}
		local, err := OpenLocal(opts.FS, filepath.Clean(dir))
		if err != nil {
			return nil, err // not local: a Store that holds a nil pointer is none that is nil
		}
		return local, nil
	case "s3":
		bucket, prefix, _ := strings.Cut(rest, "/")
		if strings.ContainsAny(rest, "?#@") {
			return nil, fmt.Errorf("open store %q: want s3://bucket/prefix; the endpoint goes into --s3-endpoint and the keys into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", storeURL)
		}
		s3, err := OpenS3(ctx, S3Config{
			Bucket: bucket, Prefix: strings.Trim(prefix, "/"), Clock: opts.Clock,
			Endpoint: first(opts.S3Endpoint, opts.Getenv("AWS_ENDPOINT_URL_S3"), opts.Getenv("AWS_ENDPOINT_URL")),
			Region:   first(opts.Getenv("AWS_REGION"), opts.Getenv("AWS_DEFAULT_REGION")),
		})
		if err != nil {
			return nil, err
		}
		return s3, nil
	}
	return nil, fmt.Errorf("open store %q: there is no store of kind %q; want file:///directory or s3://bucket/prefix", storeURL, scheme)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// ClusterObject holds the id of the cluster whose store this is.
const ClusterObject = "tidemark-cluster"

// maxClusterID bounds what ClaimBucket reads of an object that anyone may have put there.
const maxClusterID = 256

// ClaimBucket makes sure that the store is clusterID's: it writes the id into an unclaimed store and refuses a foreign one
// with *ForeignError. Two clusters that claim at once may both write; the second look below, and the next start, tell
// one of them. Nothing is written unless the store said that there is no id.
func ClaimBucket(ctx context.Context, s Store, clusterID string) error {
	if clusterID == "" || len(clusterID) > maxClusterID {
		return fmt.Errorf("claim store: cluster id %.32q has %d bytes; want 1 to %d", clusterID, len(clusterID), maxClusterID)
	}
	here, err := readClusterID(ctx, s)
	if errors.Is(err, ErrNotFound) {
		if err := s.Put(ctx, ClusterObject, [][]byte{[]byte(clusterID)}); err != nil {
			return fmt.Errorf("claim store: %w", err)
		}
		here, err = readClusterID(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("claim store: %w", err)
	}
	if here != clusterID {
		return &ForeignError{Here: here, Wanted: clusterID}
	}
	return nil
}

func readClusterID(ctx context.Context, s Store) (string, error) {
	o, err := s.Stat(ctx, ClusterObject)
	if err != nil {
		return "", err
	}
	if o.Size == 0 || o.Size > maxClusterID {
		return "", &CorruptionError{Object: ClusterObject, Reason: fmt.Sprintf("it has %d bytes and is no cluster id", o.Size)}
	}
	id := make([]byte, o.Size)
	if err := s.ReadAt(ctx, ClusterObject, id, 0); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return "", fmt.Errorf("%w: %w", ErrUnavailable, err) // rewritten between the two calls
		}
		return "", err
	}
	return string(id), nil
}

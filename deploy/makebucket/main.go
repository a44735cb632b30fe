// Command makebucket waits for an S3 server and makes a bucket on it, for `make run-minio`. A bucket that is there
// already is left as it is. Credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
//
//	makebucket URL BUCKET
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tidemark-io/tidemark/clock"
)

// patience is for how long the server may take to come up.
const patience = 30 * time.Second

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: makebucket URL BUCKET")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1], os.Args[2])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "makebucket:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, endpoint, bucket string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("parse the server's URL: %w", err)
	}
	if u.Host == "" {
		return fmt.Errorf("%q is no URL; give one such as http://127.0.0.1:9000", endpoint)
	}
	client, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewEnvAWS(), Secure: u.Scheme == "https"})
	if err != nil {
		return fmt.Errorf("set up the S3 client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return makeBucket(ctx, client, clock.System(), bucket)
}

// makeBucket tries until the bucket is there or ctx ends, and then tells the last failure.
func makeBucket(ctx context.Context, client *minio.Client, c clock.Clock, bucket string) error {
	for {
		err := client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
		switch minio.ToErrorResponse(err).Code {
		case "BucketAlreadyOwnedByYou", "BucketAlreadyExists":
			return nil
		}
		if err == nil {
			return nil
		}
		if sleepErr := sleep(ctx, c); sleepErr != nil {
			return fmt.Errorf("make bucket %s: %w", bucket, err)
		}
	}
}

func sleep(ctx context.Context, c clock.Clock) error {
	timer := c.NewTimer(200 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C():
		return nil
	}
}

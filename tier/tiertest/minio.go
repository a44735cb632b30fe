package tiertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// minioVersion is the server that `make tools` builds.
const minioVersion = "v0.0.0-20260212201848-7aac2a2c5b7c"

// Server is a real S3 server on a loopback port.
type Server struct {
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string

	binary, dir string
	address     string
	process     *exec.Cmd
}

// MinIO starts a MinIO server of the test's own, which ends with the test, and returns how to reach it.
func MinIO(t testing.TB) (endpoint, access, secret string) {
	t.Helper()
	s := StartMinIO(t)
	return s.Endpoint, s.AccessKey, s.SecretKey
}

// StartMinIO is MinIO for tests that stop and start the server. Without the tool the test is skipped, and fails where CI=true.
func StartMinIO(t testing.TB) *Server {
	t.Helper()
	tools := os.Getenv("TIDEMARK_TOOLS")
	if tools == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		tools = filepath.Join(home, ".cache", "tidemark", "tools")
	}
	s := &Server{
		AccessKey: "tidemark-test", SecretKey: "tidemark-test-secret", dir: t.TempDir(),
		binary: filepath.Join(tools, "minio-"+minioVersion, "minio"),
	}
	if _, err := os.Stat(s.binary); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no MinIO server to test against: %v; run make tools", err)
		}
		t.Skipf("no MinIO server to test against: %v; run make tools (about four minutes, once)", err)
	}
	t.Cleanup(func() { s.Kill(t) })
	// MinIO takes no listener, only a port, which somebody else may take first: then another is tried.
	var err error
	for range 5 {
		if err = s.pickPort(); err != nil {
			t.Fatal(err)
		}
		if err = s.start(t); err == nil {
			return s
		}
		s.Kill(t)
	}
	t.Fatalf("start MinIO: %v", err)
	return nil
}

func (s *Server) pickPort() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	s.Endpoint = "http://" + s.address
	return l.Close()
}

// Restart starts a killed server again on the same port and directory.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(t); err != nil {
		t.Fatalf("restart MinIO: %v", err)
	}
}

// Kill ends the server at once, as kill -9 does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.process == nil {
		return
	}
	if err := s.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("kill MinIO: %v", err)
	}
	var exit *exec.ExitError
	if err := s.process.Wait(); err != nil && !errors.As(err, &exit) {
		t.Errorf("wait for MinIO: %v", err)
	}
	s.process = nil
}

func (s *Server) start(t testing.TB) error {
	s.process = exec.Command(s.binary, "server", "--quiet", "--address", s.address, "--console-address", "127.0.0.1:0", s.dir)
	s.process.Env = append(os.Environ(), "MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey, "MINIO_SITE_REGION=us-east-1", "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := s.process.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ready(ctx, s.Endpoint+"/minio/health/ready") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after 30 s: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

func ready(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// MakeBucket makes a bucket.
func (s *Server) MakeBucket(t testing.TB, name string) {
	t.Helper()
	client, err := minio.New(s.address, &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
}

package tier_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

func TestOpen(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	dir := filepath.Join(t.TempDir(), "with space")
	for url, says := range map[string]string{
		"":                        "want file:///directory or s3://bucket/prefix",
		dir:                       "did you mean file:///",
		"file://relative/dir":     "must be absolute",
		"gs://bucket":             `no store of kind "gs"`,
		"s3://":                   "no bucket",
		"s3://b/p?endpoint=x":     "--s3-endpoint",
		"s3://b/../p":             "begins with a dot",
		"file://" + dir:           "",
		"s3://bucket":             "",
		"s3://bucket/some/prefix": "",
	} {
		s, err := tier.Open(t.Context(), url, tier.Options{FS: disk.OS(), S3Endpoint: "http://127.0.0.1:1"})
		switch {
		case says == "" && err != nil:
			t.Errorf("open %q: %v", url, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("open %q: %v does not say %q", url, err, says)
		}
		if err != nil && s != nil { // whoever tries again opens it when it has none
			t.Errorf("open %q failed and gave a %T", url, s)
		}
		if l, ok := s.(*tier.Local); ok {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := tier.Open(t.Context(), "s3://b", tier.Options{S3Endpoint: "127.0.0.1:9000"}); err == nil || !strings.Contains(err.Error(), "http://host:port") {
		t.Errorf("endpoint without scheme: %v", err)
	}
}

func claim(t *testing.T, s tier.Store) {
	t.Helper()
	for range 2 {
		if err := tier.ClaimBucket(t.Context(), s, "0123456789abcdef"); err != nil {
			t.Fatal(err)
		}
	}
	err := tier.ClaimBucket(t.Context(), s, "fedcba9876543210")
	var foreign *tier.ForeignError
	if !errors.As(err, &foreign) || foreign.Here != "0123456789abcdef" || foreign.Wanted != "fedcba9876543210" {
		t.Errorf("a foreign cluster: %v", err)
	}
}

func TestClaimBucket(t *testing.T) {
	f := tierfake.New()
	f.FailNext(tierfake.Stat, tier.ErrUnavailable, tierfake.Before)
	if err := tier.ClaimBucket(t.Context(), f, "a"); !errors.Is(err, tier.ErrUnavailable) || len(f.Names()) != 0 {
		t.Errorf("claimed an unreadable store: %v, %v", err, f.Names())
	}
	claim(t, f)
	if !f.Corrupt(tier.ClusterObject, func([]byte) []byte { return nil }) {
		t.Fatal("no cluster object")
	}
	var corrupt *tier.CorruptionError
	if err := tier.ClaimBucket(t.Context(), f, "0123456789abcdef"); !errors.As(err, &corrupt) {
		t.Errorf("an empty id: %v", err)
	}
}

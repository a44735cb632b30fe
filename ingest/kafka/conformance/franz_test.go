package conformance

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestFranzGoItself points a test of franz-go's own at Tidemark: chains of groups, under each of its ways of sharing partitions out, whose members
// come and go while they read, check and write on 20,000 records, each exactly once and in order.
func TestFranzGoItself(t *testing.T) {
	if !*compat {
		t.Skip("it takes a minute or two: run it with -compat, or make compat")
	}
	p := startProcess(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout", "7m", "-run", "^TestGroupETL$", "github.com/twmb/franz-go/pkg/kgo")
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+p.broker, "KGO_TEST_RF=1", "KGO_TEST_RECORDS=20000", "KGO_TEST_MAX_TOPIC_PARTS=7")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out[max(0, len(out)-16<<10):])
	}
}

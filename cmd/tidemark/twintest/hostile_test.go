//go:build cgo

package twintest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/query/sandbox/corpus"
	"github.com/tidemark-io/tidemark/record"
)

// Reasons with which something may end that passes the sandbox, and those of limits.
var (
	mayFail = []string{"INVALID_SQL", "UNKNOWN_COLUMN", "UNKNOWN_TABLE", "SQL_ERROR"}
	limits  = []string{"QUERY_TIMEOUT", "QUERY_MEMORY", "QUERY_TEMP_SPACE", "RESULT_TOO_LARGE", "SQL_ERROR"}
)

// Whatever SQL a server is sent: the outcome is the expected one, the process lives on and is well, and who produces meanwhile notices nothing.
func TestHostileSQL(t *testing.T) {
	cases, err := corpus.Load()
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, build(t), "--query-timeout", "2s", "--query-memory", "64MiB", "--query-disk", "128MiB", "--queries", "3")
	c := p.client()
	for _, name := range []string{"t", "u", "orders", "access-log"} {
		if _, _, err := c.CreateTopic(t.Context(), name, 2, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	stop := produceBeside(t, c)
	if setting(t, "TIDEMARK_TWIN_QUERIES", 0) == 0 { // the short form: without those that run into the limits
		cases = slices.DeleteFunc(cases, func(c corpus.Case) bool { return c.Expect == corpus.Runs })
	}
	for deadline := clock.System().Now().Add(time.Minute); clock.System().Now().Before(deadline); pause(20 * time.Millisecond) {
		if outcome, _ := send(p.url(), "SELECT 1"); outcome == "rows" {
			break
		}
	}
	outcomes, work := make(chan string, len(cases)), sync.WaitGroup{}
	next := make(chan corpus.Case)
	for range 4 {
		work.Go(func() {
			for hostile := range next {
				outcomes <- ask(t, p.url(), hostile)
			}
		})
	}
	for _, hostile := range cases {
		next <- hostile
	}
	close(next)
	work.Wait()
	close(outcomes)
	records := stop()

	if !p.ready() {
		t.Error("the server is not ready any more")
	}
	if got := ask(t, p.url(), corpus.Case{Expect: corpus.OK, SQL: "SELECT count(*) FROM t"}); got != "rows" {
		t.Errorf("an ordinary query afterwards: %s", got)
	}
	count := map[string]int{}
	for o := range outcomes {
		count[o]++
	}
	t.Logf("%d statements: %v; %d records acknowledged beside them; the process needed %s at most", len(cases), count, records, peak(p.cmd.Process.Pid))
}

// patience is how long a statement may take whose time is 2 s. DuckDB looks at interrupts between calls of a function only, and one call that
// makes a text of two gigabytes takes its time.
const patience = 2 * time.Minute

// peak is the most memory that a process has had, where the system tells.
func peak(pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "an unknown amount of memory"
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(line)
}

// produceBeside produces until the end, and tells how many records were acknowledged. None may fail, or take long.
func produceBeside(t *testing.T, c *client.Client) (stop func() int64) {
	t.Helper()
	producer, err := c.NewProducer(client.ProducerConfig{DeliveryTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var acknowledged atomic.Int64
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			value := fmt.Sprintf(`{"a":%d,"b":%d,"c":"x%d"}`, n%10, n, n%7)
			err := producer.Produce(t.Context(), []string{"t", "u", "orders"}[n%3], record.Record{Value: []byte(value)}, func(res client.Result) {
				if res.Err != nil {
					t.Errorf("a record failed beside the statements: %v", res.Err)
				}
				acknowledged.Add(1)
			})
			if err != nil {
				t.Errorf("produce: %v", err)
				return
			}
			pause(2 * time.Millisecond)
		}
	})
	return func() int64 {
		close(done)
		work.Wait()
		if err := producer.Close(t.Context()); err != nil {
			t.Errorf("close the producer: %v", err)
		}
		return acknowledged.Load()
	}
}

// ask sends one statement and says in a word what became of it.
func ask(t *testing.T, url string, c corpus.Case) string {
	t.Helper()
	begin := clock.System().Now()
	outcome, detail := send(url, c.SQL)
	elapsed := clock.System().Now().Sub(begin)
	var right bool
	switch c.Expect {
	case corpus.OK:
		right = outcome == "rows" || outcome == "cut off" || slices.Contains(mayFail, outcome) || slices.Contains(limits, outcome)
	case corpus.Runs:
		right = slices.Contains(limits, outcome) || outcome == "cut off"
	default:
		right = outcome == c.Expect || c.SQL == "" && outcome == "INVALID_REQUEST"
	}
	if !right {
		t.Errorf("line %d of the corpus (%s %s) became %s %s\n%.300s", c.Line, c.Expect, c.Name, outcome, detail, c.SQL)
	}
	if elapsed > 5*time.Second {
		t.Logf("line %d of the corpus (%s %s) took %v", c.Line, c.Expect, c.Name, elapsed)
	}
	if elapsed > patience {
		t.Errorf("line %d of the corpus (%s %s) took %v", c.Line, c.Expect, c.Name, elapsed)
	}
	return outcome
}

// send is "rows" for a whole answer, "cut off" for one that broke off, and else the reason of the error.
func send(url, sql string) (outcome, detail string) {
	answer, err := http.Post(url+"/v1/sql", "application/sql", strings.NewReader(sql))
	if err != nil {
		return "no answer", err.Error()
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		var last tailOf
		if _, err := io.Copy(&last, answer.Body); err == nil {
			return "rows", ""
		}
		return "cut off", string(last)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return "no answer", err.Error()
	}
	var said struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Reason == "" {
		return answer.Status, string(body)
	}
	return said.Reason, said.Message
}

// tailOf keeps the last bytes that were written to it.
type tailOf []byte

func (o *tailOf) Write(p []byte) (int, error) {
	*o = append(*o, p[max(0, len(p)-1000):]...)
	*o = bytes.Clone((*o)[max(0, len(*o)-1000):])
	return len(p), nil
}

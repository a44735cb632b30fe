package conformance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// step is one call of a command.
type step struct {
	tool, does string
	// class is the Java class of a command of Kafka's own; empty for one that is a program of the tool's name.
	class string
	// args may say BROKER; without it the address stands at their end.
	args  []string
	input string
	// wants are expressions that its output has to match, and exits its exit code.
	wants []string
	exits int
}

const tools = "org.apache.kafka.tools."

// toolSteps are a story that the commands tell together: a topic is made, written, read by a group, looked at from all sides, and deleted.
func toolSteps(folder string) []step {
	topics, groups, configs := tools+"TopicCommand", tools+"consumer.group.ConsumerGroupCommand", "kafka.admin.ConfigCommand"
	deletions := filepath.Join(folder, "deletions.json")
	return []step{
		{"kafka-topics", "--create", topics, []string{"--create", "--topic", "tools", "--partitions", "3"}, "", []string{`Created topic tools\.`}, 0},
		{"kafka-topics", "--list", topics, []string{"--list"}, "", []string{`(?m)^tools$`}, 0},
		{"kafka-topics", "--describe", topics, []string{"--describe", "--topic", "tools"}, "", []string{`PartitionCount: 3`, `Partition: 2\s+Leader: \d+`}, 0},
		{
			"kafka-console-producer", "keys, headers, NULLs, zstd", tools + "ConsoleProducer",
			[]string{"--topic", "tools", "--compression-codec", "zstd", "--property", "parse.key=true", "--property", "parse.headers=true", "--property", "null.marker=NULL"},
			"h1:v1,h2:v2\tk1\tone\nh1:NULL\tk2\tNULL\n", nil, 0,
		},
		{
			"kafka-console-consumer", "as a member of a group, with keys, headers and offsets", tools + "consumer.ConsoleConsumer",
			[]string{
				"--topic", "tools", "--from-beginning", "--max-messages", "2", "--group", "readers", "--property", "print.key=true", "--property", "print.headers=true",
				"--property", "print.partition=true", "--property", "print.offset=true", "--property", "null.literal=NULL",
			}, "",
			[]string{
				fmt.Sprintf(`Partition:%d\tOffset:0\th1:v1,h2:v2\tk1\tone\n`, partitionOf([]byte("k1"), 3)),
				fmt.Sprintf(`Partition:%d\tOffset:\d\th1:NULL\tk2\tNULL\n`, partitionOf([]byte("k2"), 3)),
			}, 0,
		},
		{"kafka-consumer-groups", "--list", groups, []string{"--list"}, "", []string{`(?m)^readers$`}, 0},
		{"kafka-consumer-groups", "--describe, with the lag", groups, []string{"--describe", "--group", "readers"}, "", []string{`readers\s+tools\s+\d\s+\d\s+\d\s+0\s`}, 0},
		{
			"kafka-consumer-groups", "--reset-offsets", groups, []string{"--reset-offsets", "--to-earliest", "--topic", "tools", "--group", "readers", "--execute"}, "",
			[]string{`readers\s+tools\s+\d\s+0\s`}, 0,
		},
		{"kafka-consumer-groups", "--delete-offsets", groups, []string{"--delete-offsets", "--topic", "tools:0", "--group", "readers"}, "", []string{`(?i)success`}, 0},
		{"kafka-consumer-groups", "--delete", groups, []string{"--delete", "--group", "readers"}, "", []string{`was successful`}, 0},
		{
			"kafka-configs", "--alter of a topic", configs,
			[]string{"--alter", "--entity-type", "topics", "--entity-name", "tools", "--add-config", "max.message.bytes=2000000"}, "", []string{`Completed updating config for topic tools\.`}, 0,
		},
		{"kafka-configs", "--describe of a topic", configs, []string{"--describe", "--entity-type", "topics", "--entity-name", "tools"}, "", []string{`max\.message\.bytes=2000000`}, 0},
		{
			"kafka-configs", "a setting that does not exist here is refused by name", configs,
			[]string{"--alter", "--entity-type", "topics", "--entity-name", "tools", "--add-config", "segment.bytes=1048576"}, "", []string{`segment\.bytes`}, 1,
		},
		{
			"kafka-verifiable-producer", "every record acknowledged", tools + "VerifiableProducer",
			[]string{"--topic", "tools", "--max-messages", "500", "--acks", "-1"}, "", []string{`"sent":500`, `"acked":500`}, 0,
		},
		{
			"kafka-verifiable-consumer", "group, commits", tools + "VerifiableConsumer",
			[]string{"--topic", "tools", "--group-id", "verifiers", "--max-messages", "500", "--reset-policy", "earliest"}, "", []string{`"partitions_assigned"`, `"success":true`, `"shutdown_complete"`}, 0,
		},
		{
			"kafka-verifiable-consumer", "the same with KIP-848 groups", tools + "VerifiableConsumer",
			[]string{"--topic", "tools", "--group-id", "verifiers-848", "--group-protocol", "consumer", "--max-messages", "500", "--reset-policy", "earliest"}, "",
			[]string{`"partitions_assigned"`, `"success":true`, `"shutdown_complete"`}, 0,
		},
		{"kafka-get-offsets", "latest", tools + "GetOffsetShell", []string{"--topic", "tools"}, "", []string{`(?m)^tools:0:\d+$`, `(?m)^tools:2:\d+$`}, 0},
		{"kafka-get-offsets", "earliest", tools + "GetOffsetShell", []string{"--topic", "tools", "--time", "earliest"}, "", []string{`(?m)^tools:1:0$`}, 0},
		{"kafka-log-dirs", "sizes of partitions", tools + "LogDirsCommand", []string{"--describe", "--topic-list", "tools"}, "", []string{`"partition":"tools-2","size":\d+`}, 0},
		{"kafka-cluster", "cluster-id", tools + "ClusterTool", []string{"cluster-id"}, "", []string{`Cluster ID: [0-9a-f]{32}`}, 0},
		{"kafka-broker-api-versions", "lists them", tools + "BrokerApiVersionsCommand", nil, "", []string{`Produce\(0\): 0 to 13`, `Fetch\(1\): 4 to 18`}, 0},
		{
			"kafka-leader-election", "answered, though nobody has to be elected", tools + "LeaderElectionCommand",
			[]string{"--election-type", "preferred", "--topic", "tools", "--partition", "0"}, "", []string{`(?i)already elected`}, 0,
		},
		{
			"kafka-transactions", "describe-producers", tools + "TransactionsCommand", []string{"--bootstrap-server", "BROKER", "describe-producers", "--topic", "tools", "--partition", fmt.Sprint(partitionOf([]byte("k1"), 3))}, "",
			[]string{`ProducerId`, `(?m)^\d+\s+0\s`}, 0,
		},
		{
			"kafka-delete-records", "refused: nothing removes old records yet", tools + "DeleteRecordsCommand", []string{"--offset-json-file", deletions}, "",
			[]string{`tools-0\s+error: .*PolicyViolation`}, 0,
		},
		{
			"kafka-producer-perf-test", "10,000 records", tools + "ProducerPerformance", []string{
				"--topic", "tools", "--num-records", "10000", "--record-size", "100", "--throughput", "-1", "--producer-props", "bootstrap.servers=BROKER", "compression.type=lz4",
			}, "", []string{`10000 records sent`}, 0,
		},
		{"kafka-consumer-perf-test", "10,000 records", tools + "ConsumerPerformance", []string{"--topic", "tools", "--messages", "10000", "--timeout", "30000"}, "", []string{`, 1\d{4}, `}, 0},
		{"kafka-topics", "--alter --partitions", topics, []string{"--alter", "--topic", "tools", "--partitions", "5"}, "", nil, 0},
		{"kafka-topics", "--delete", topics, []string{"--delete", "--topic", "tools"}, "", nil, 0},
	}
}

// kcatSteps are a story that kcat tells, beginning with a topic that is not there. It stands on a librdkafka of its own.
func kcatSteps() []step {
	return []step{
		{
			"kcat", "-P, with keys and headers, into a topic that comes by that", "", []string{"-b", "BROKER", "-t", "kcat", "-P", "-K", ":", "-H", "h=v", "-z", "lz4", "-X", "enable.idempotence=true"},
			"k1:one\nk2:two\n", nil, 0,
		},
		{"kcat", "-C, until the end", "", []string{"-b", "BROKER", "-t", "kcat", "-C", "-e", "-f", `%p %o %k %s %h\n`}, "", []string{`0 0 k1 one h=v\n0 1 k2 two h=v\n`}, 0},
		{"kcat", "-L", "", []string{"-b", "BROKER", "-L"}, "", []string{`topic "kcat" with 1 partitions`}, 0},
		{"kcat", "-Q, offsets by time", "", []string{"-b", "BROKER", "-Q", "-t", "kcat:0:1000"}, "", []string{`kcat \[0\] offset 0`}, 0},
		{"kcat", "-G, as a member of a group", "", []string{"-b", "BROKER", "-X", "auto.offset.reset=earliest", "-G", "kcat-readers", "-c", "2", "kcat"}, "", []string{`one\ntwo\n`}, 0},
	}
}

// tryTools runs kcat and Kafka's own commands, as their shell scripts do, and checks what they print.
func (p *process) tryTools(t *testing.T, r *recorder, classpath string) {
	folder := t.TempDir()
	deletions := `{"version":1,"partitions":[{"topic":"tools","partition":0,"offset":1}]}`
	if err := os.WriteFile(filepath.Join(folder, "deletions.json"), []byte(deletions), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, s := range append(kcatSteps(), toolSteps(folder)...) {
		if !t.Run(s.tool+" "+s.does, func(t *testing.T) { p.tryTool(t, s, classpath) }) {
			return // what follows stands on it
		}
		r.tool(s.tool, s.does)
	}
}

func (p *process) tryTool(t *testing.T, s step, classpath string) {
	ctx, cancel := context.WithTimeout(t.Context(), storyPatience)
	defer cancel()
	given := s.args
	if !strings.Contains(strings.Join(given, " "), "BROKER") {
		given = append(slices.Clone(given), "--bootstrap-server", "BROKER")
	}
	program, args := s.tool, []string(nil)
	if s.class != "" {
		program, args = "java", []string{"-Xmx256m", "-cp", classpath, s.class}
	}
	for _, a := range given {
		args = append(args, strings.ReplaceAll(a, "BROKER", p.broker))
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(s.input)
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != s.exits {
		t.Fatalf("%s: %v, want exit code %d\n%s", s.tool, err, s.exits, out.String())
	}
	for _, want := range s.wants {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("%s does not print %s:\n%s", s.tool, want, out.String())
		}
	}
}

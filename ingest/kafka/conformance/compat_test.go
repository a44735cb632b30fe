package conformance

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// foreignSeats are the clients of other languages: Apache Kafka's own in Java, once with each protocol of groups, and KafkaJS.
func foreignSeats(t *testing.T, classpath string) []seat {
	pom := readFile(t, "java/pom.xml")
	version := regexp.MustCompile(`<artifactId>kafka-tools</artifactId><version>([^<]+)<`).FindStringSubmatch(pom)
	if version == nil {
		t.Fatal("java/pom.xml names no version of kafka-tools")
	}
	java := func(protocol string) func(string) (client, error) {
		return func(broker string) (client, error) {
			return openForeign("java", "-Xmx256m", "-cp", classpath, "java/Client.java", broker, protocol)
		}
	}
	var manifest struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal([]byte(readFile(t, "js/package.json")), &manifest); err != nil {
		t.Fatal(err)
	}
	script := installKafkaJS(t)
	return []seat{
		{name: "Java", version: version[1], open: java("classic")},
		{name: "Java, KIP-848 groups", version: version[1], open: java("consumer")},
		{
			name: "KafkaJS", version: manifest.Dependencies["kafkajs"],
			lacks: map[string]string{"codec-zstd": "KafkaJS brings gzip alone; snappy and lz4 were added from npm, and for zstd there is only a native package."},
			blurs: "KafkaJS holds headers as an object, so that their order is kept only for one name, and it cannot write a header that is NULL.",
			blur:  headersByName,
			writes: func(r record) record {
				r = headersByName(r)
				for i := range r.Headers {
					if r.Headers[i].Value == nil {
						r.Headers[i].Value = []byte{}
					}
				}
				return r
			},
			open: func(broker string) (client, error) { return openForeign("node", script, broker) },
		},
	}
}

// headersByName is how a library reads that keeps headers by name: those of one name follow each other.
func headersByName(r record) record {
	var names []string
	byName := map[string][]header{}
	for _, h := range r.Headers {
		if byName[h.Key] == nil {
			names = append(names, h.Key)
		}
		byName[h.Key] = append(byName[h.Key], h)
	}
	r.Headers = nil
	for _, name := range names {
		r.Headers = append(r.Headers, byName[name]...)
	}
	return r
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// javaClasspath has Maven fetch Kafka's Java client and tools.
func javaClasspath(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "classpath")
	command(t, 5*time.Minute, "java", "mvn", "-q", "-B", "dependency:build-classpath", "-Dmdep.outputFile="+file)
	return strings.TrimSpace(readFile(t, file))
}

// installKafkaJS has npm fetch KafkaJS into a folder of the test, and returns the program that drives it.
func installKafkaJS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "client.js"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(readFile(t, "js/"+name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command(t, 5*time.Minute, dir, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
	return filepath.Join(dir, "client.js")
}

// command runs a program to its end in a folder and returns what it printed.
func command(t *testing.T, patience time.Duration, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestCompat puts the clients of other languages through every story, and Kafka's own tools through theirs.
func TestCompat(t *testing.T) {
	if !*compat {
		t.Skip("it needs a JVM, Maven, Node, npm and kcat: run it with -compat, or make compat")
	}
	for _, program := range []string{"java", "mvn", "node", "npm", "kcat"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("the table needs every column: %v", err)
		}
	}
	p := startProcess(t)
	r := new(recorder)
	classpath := javaClasspath(t)
	t.Run("clients", func(t *testing.T) { p.tryAll(t, r, foreignSeats(t, classpath)) })
	t.Run("tools", func(t *testing.T) { p.tryTools(t, r, classpath) })
	if !t.Failed() && isWhole() {
		r.settle(t, "compat.json")
	}
}

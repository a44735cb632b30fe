// Package deploy holds what runs Tidemark elsewhere, and the tests that it fits what is built.
package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/knadh/koanf/parsers/yaml"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestComposeServices checks what can be checked of the compose file with no engine at hand: that it is YAML, that each
// image names a version, and that a service waits only for services that exist.
func TestComposeServices(t *testing.T) {
	file, err := yaml.Parser().Unmarshal([]byte(read(t, "compose.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	services, _ := file["services"].(map[string]any)
	if len(services) != 6 {
		t.Fatalf("%d services, want 6", len(services))
	}
	pinned := regexp.MustCompile(`^[a-z.]+/[a-z/-]+:(v\d+\.\d+\.\d+|RELEASE\.[0-9TZ-]+)$`)
	for name, s := range services {
		service, ok := s.(map[string]any)
		if !ok {
			t.Fatalf("service %s is no mapping", name)
		}
		image, hasImage := service["image"].(string)
		_, builds := service["build"]
		if !hasImage {
			t.Errorf("service %s names no image", name)
		}
		if !builds && !pinned.MatchString(image) {
			t.Errorf("service %s: image %s is not pinned to a version", name, image)
		}
		needs, _ := service["depends_on"].(map[string]any)
		for other := range needs {
			if services[other] == nil {
				t.Errorf("service %s depends on %s, which is not there", name, other)
			}
		}
	}
}

// TestComposeNodes holds the nodes to what makes them three: a name, an address, a port and a volume of their own, and one etcd and
// one object store.
func TestComposeNodes(t *testing.T) {
	file, err := yaml.Parser().Unmarshal([]byte(read(t, "compose.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	services, _ := file["services"].(map[string]any)
	seen := map[string]bool{}
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		node, _ := services[name].(map[string]any)
		settings, _ := node["environment"].(map[string]any)
		if settings["TIDEMARK_NODE_ID"] != name || settings["TIDEMARK_ADVERTISE"] != "http://"+name+":8640" {
			t.Errorf("%s is told to be %v at %v", name, settings["TIDEMARK_NODE_ID"], settings["TIDEMARK_ADVERTISE"])
		}
		for _, own := range []string{fmt.Sprint(node["ports"]), fmt.Sprint(node["volumes"])} {
			if own == "<nil>" || seen[own] {
				t.Errorf("%s shares %s with another", name, own)
			}
			seen[own] = true
		}
		if command := fmt.Sprint(node["command"]); !strings.Contains(command, "--etcd=http://etcd:2379") || !strings.Contains(command, "--store=s3://tidemark/compose") {
			t.Errorf("%s runs %s", name, command)
		}
	}
}

// TestComposeConfig has docker itself read the file, where its compose plugin is installed.
func TestComposeConfig(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skipf("no docker client: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), docker, "compose", "version").CombinedOutput(); err != nil {
		t.Skipf("docker has no compose plugin: %v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), docker, "compose", "-f", "compose.yaml", "config", "--quiet").CombinedOutput(); err != nil {
		t.Errorf("docker compose config: %v\n%s", err, out)
	}
}

// TestVersions holds the images to the versions that we build and test with.
func TestVersions(t *testing.T) {
	mod := read(t, "../go.mod")
	etcd := regexp.MustCompile(`(?m)go\.etcd\.io/etcd/server/v3 (v\S+)$`).FindStringSubmatch(mod)
	if etcd == nil {
		t.Fatal("go.mod does not require the etcd server")
	}
	if want := "etcd-development/etcd:" + etcd[1] + "\n"; !strings.Contains(read(t, "compose.yaml"), want) {
		t.Errorf("compose.yaml does not run etcd %s, as go.mod has it", etcd[1])
	}
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(mod)
	if want := "FROM golang:" + language[1] + "-"; !strings.Contains(read(t, "Dockerfile"), want) {
		t.Errorf("Dockerfile does not build with Go %s, as go.mod has it", language[1])
	}
}

// TestScripts has the shell read each script without running it.
func TestScripts(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skipf("no bash: %v", err)
	}
	for _, name := range []string{"run-minio.sh", "run-cluster.sh", "../.ci/run", "../tools/install", "../tools/lint", "../tools/proto", "../tools/fuzz"} {
		if out, err := exec.CommandContext(t.Context(), bash, "-n", name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if info, err := os.Stat(name); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s is not executable (%v)", name, err)
		}
	}
}

package meta_test

import (
	"testing"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/embedded"
	"github.com/tidemark-io/tidemark/meta/metatest"
)

// startEtcd starts a real etcd that ends with the test.
func startEtcd(t *testing.T) *embedded.Server {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close etcd: %v", err)
		}
	})
	return server
}

// dialEtcd makes a store that reaches etcd over TCP, as one outside is reached.
func dialEtcd(t *testing.T, endpoints ...string) meta.KV {
	t.Helper()
	client, err := meta.DialEtcd(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	})
	return meta.NewEtcd(client)
}

func TestContractOnEtcd(t *testing.T) {
	server := startEtcd(t)
	kv := dialEtcd(t, server.Endpoint())
	metatest.Run(t, func(*testing.T) meta.KV { return kv })
}

func TestContractOnEtcdInProcess(t *testing.T) {
	kv := startEtcd(t).KV()
	metatest.Run(t, func(*testing.T) meta.KV { return kv })
}

// Command etcd is the etcd server at the version that go.mod pins, for `make run-minio` and for tests that want a
// separate one. It takes etcd's own flags. In production, run the builds that the etcd project releases.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }

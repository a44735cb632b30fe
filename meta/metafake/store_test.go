package metafake

import (
	"testing"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metatest"
)

func TestContract(t *testing.T) {
	metatest.Run(t, func(*testing.T) meta.KV { return New(Config{}) })
}

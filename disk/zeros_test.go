package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestWriteZeros: the way round a missing fallocate keeps what the file holds.
func TestWriteZeros(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	for _, held := range []int{0, 3, 1 << 20, 3 << 20} {
		want := bytes.Repeat([]byte{7}, held)
		if err := os.WriteFile(name, want, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeZeros(f, 2<<20+1); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if held < 2<<20+1 {
			want = append(want, make([]byte, 2<<20+1-held)...)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("a file of %d bytes has another content: %v", held, err)
		}
	}
}

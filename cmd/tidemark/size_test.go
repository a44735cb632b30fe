package main

import "testing"

func TestByteSize(t *testing.T) {
	for in, want := range map[string]struct {
		bytes int64
		text  string
	}{
		"512MiB": {512 << 20, "512MiB"}, "4gib": {4 << 30, "4GiB"}, "1 KiB": {1024, "1KiB"}, "1000000": {1000000, "1000000"}, "2MB": {2000000, "2000000"}, "0": {0, "0"}, "7B": {7, "7"}, "2048KiB": {2 << 20, "2MiB"},
	} {
		var b byteSize
		if err := b.Set(in); err != nil || int64(b) != want.bytes || b.String() != want.text {
			t.Errorf("%q: %d %q %v", in, b, b.String(), err)
		}
	}
	for _, in := range []string{"", "MiB", "-1", "1.5GiB", "99999999999GiB", "1Q", "1MiBMiB"} {
		var b byteSize
		if err := b.Set(in); err == nil {
			t.Errorf("%q is taken as %d", in, b)
		}
	}
}

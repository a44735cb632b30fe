package wal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
)

func putHeaderCRC(p []byte) {
	binary.BigEndian.PutUint32(p[28:], crc32.Checksum(p[:28], castagnoli))
}

func appendFrame(out []byte, salt uint32, at, synced LSN, f Frame) []byte {
	return append(appendFrameHeader(out, salt, at, synced, f), f.Batch...)
}

// TestFormatIsFixed: these bytes are on disks; docs/formats/wal.md draws them.
func TestFormatIsFixed(t *testing.T) {
	got := fileHeader{first: 0x0102030405060708, synced: 0x1112131415161718, recycled: true, salt: 0x21222324}.encode()
	want := "544d574c" + "0002" + "0001" + "0102030405060708" + "1112131415161718" + "21222324" + "ea07d967"
	if hex.EncodeToString(got) != want {
		t.Errorf("file header %x, want %s", got, want)
	}
	first := []byte("TMWL\x00\x01\xff\xff\x01\x02\x03\x04\x05\x06\x07\x08\x11\x12\x13\x14\x15\x16\x17\x18\xff\xff\xff\xff\x00\x00\x00\x00")
	putHeaderCRC(first)
	if h, reason, _ := decodeFileHeader(first, 0x0102030405060708); reason != "" || h != (fileHeader{first: 0x0102030405060708, synced: 0x1112131415161718}) {
		t.Errorf("a file of version 1: %+v, %s", h, reason)
	}
	f := Frame{Topic: [16]byte{0: 0xa0, 15: 0xaf}, Partition: 3, Epoch: 4, AppendTime: 5, Batch: []byte("abc")}
	if salted := appendFrame(nil, 0xff00ff00, 0x20, 0x10, f); hex.EncodeToString(salted[4:8]) != "15623d53" {
		t.Errorf("frame with a salt %x", salted)
	}
	got = appendFrame(nil, 0, 0x20, 0x10, f)
	want = "544d5746" + "ea62c253" + "0000000000000020" + "0000000000000010" + "a00000000000000000000000000000af" + "00000003" + "00000004" +
		"0000000000000005" + "00000003" + "364b3fb7" + "616263"
	if hex.EncodeToString(got) != want {
		t.Errorf("frame %x, want %s", got, want)
	}
	if fileName(0x20) != "00000000000000000032.wal" {
		t.Error(fileName(0x20))
	}
}

// TestFrameHeaderIsBounded: a length is not believed beyond the end of its file.
func TestFrameHeaderIsBounded(t *testing.T) {
	p := appendFrame(nil, 0, 0, 0, Frame{Batch: make([]byte, 100)})
	for left := range int64(len(p) + 2) {
		_, reason := decodeFrameHeader(p, 0, 0, left)
		if (reason == "") != (left >= int64(len(p))) {
			t.Errorf("with %d bytes left: %q", left, reason)
		}
	}
	if _, reason := decodeFrameHeader(p, 0, 1, 1000); reason == "" {
		t.Error("took a frame of another LSN")
	}
}

// TestFormatIsDrawn: the examples of the page about the format are what is written.
func TestFormatIsDrawn(t *testing.T) {
	f, err := disk.OS().Open("../../docs/formats/wal.md")
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, size)
	if err := errors.Join(readFull(f, page, 0), f.Close()); err != nil {
		t.Fatal(err)
	}
	for name, example := range map[string][]byte{
		"file header": fileHeader{}.encode(),
		"frame":       appendFrame(nil, 0, 0x20, 0x10, Frame{Topic: [16]byte{0: 0xa0, 15: 0xaf}, Partition: 3, Epoch: 4, AppendTime: 5, Batch: []byte("abc")}),
	} {
		var drawn strings.Builder
		for row := range slices.Chunk(example, 16) {
			fmt.Fprintf(&drawn, "% x\n", row)
		}
		if !strings.Contains(string(page), "```\n"+drawn.String()+"```") {
			t.Errorf("the page does not show this %s:\n%s", name, drawn.String())
		}
	}
}

package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

const (
	fileHeaderSize  = 32
	frameHeaderSize = 64
	formatVersion   = 1

	fileSuffix    = ".wal"
	rewriteSuffix = ".wal.new"
)

var (
	fileMagic  = [4]byte{'T', 'M', 'W', 'L'}
	frameMagic = [4]byte{'T', 'M', 'W', 'F'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// LSN is a position in the log of one data directory: bytes of frames since it was made.
type LSN uint64

// Frame is one batch in the log.
type Frame struct {
	Topic      [16]byte
	Partition  int32
	Epoch      int32
	AppendTime int64 // ms since the Unix epoch, by the leader's clock
	Batch      []byte
}

// frameHeader is a frame's header, read.
type frameHeader struct {
	lsn, synced LSN
	frame       Frame // without its batch
	length      int
	batchCRC    uint32
}

func fileName(first LSN) string { return fmt.Sprintf("%020d%s", uint64(first), fileSuffix) }

func parseFileName(name string) (LSN, bool) {
	digits, ok := strings.CutSuffix(name, fileSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return LSN(n), err == nil
}

func encodeFileHeader(first LSN) []byte {
	out := make([]byte, fileHeaderSize)
	copy(out, fileMagic[:])
	binary.BigEndian.PutUint16(out[4:], formatVersion)
	binary.BigEndian.PutUint64(out[8:], uint64(first))
	binary.BigEndian.PutUint32(out[16:], crc32.Checksum(out[:16], castagnoli))
	return out
}

// checkFileHeader returns why a header is not that of the file that begins at first, "" when it is. An unknown version is
// told apart: it is not damage.
func checkFileHeader(p []byte, first LSN) (reason string, unknownVersion bool) {
	switch {
	case len(p) < fileHeaderSize || [4]byte(p[:4]) != fileMagic:
		return "no file header", false
	case crc32.Checksum(p[:16], castagnoli) != binary.BigEndian.Uint32(p[16:]):
		return "file header does not match its checksum", false
	case binary.BigEndian.Uint16(p[4:]) != formatVersion:
		return fmt.Sprintf("file of version %d, this release reads %d", binary.BigEndian.Uint16(p[4:]), formatVersion), true
	case LSN(binary.BigEndian.Uint64(p[8:])) != first:
		return fmt.Sprintf("file header says first LSN %d", binary.BigEndian.Uint64(p[8:])), false
	}
	return "", false
}

// appendFrame encodes a frame behind out.
func appendFrame(out []byte, at, synced LSN, f Frame) []byte {
	start := len(out)
	out = append(out, frameMagic[:]...)
	out = append(out, 0, 0, 0, 0)
	e := binary.BigEndian
	out = e.AppendUint64(out, uint64(at))
	out = e.AppendUint64(out, uint64(synced))
	out = append(out, f.Topic[:]...)
	out = e.AppendUint32(out, uint32(f.Partition))
	out = e.AppendUint32(out, uint32(f.Epoch))
	out = e.AppendUint64(out, uint64(f.AppendTime))
	out = e.AppendUint32(out, uint32(len(f.Batch)))
	out = e.AppendUint32(out, crc32.Checksum(f.Batch, castagnoli))
	e.PutUint32(out[start+4:], crc32.Checksum(out[start+8:start+frameHeaderSize], castagnoli))
	return append(out, f.Batch...)
}

// decodeFrameHeader reads a header; the reason says why it is none.
func decodeFrameHeader(p []byte, maxLength int) (h frameHeader, reason string) {
	if len(p) < frameHeaderSize {
		return h, "frame header ends too early"
	}
	if [4]byte(p[:4]) != frameMagic {
		return h, "no frame header"
	}
	e := binary.BigEndian
	if crc32.Checksum(p[8:frameHeaderSize], castagnoli) != e.Uint32(p[4:]) {
		return h, "frame header does not match its checksum"
	}
	h.lsn, h.synced = LSN(e.Uint64(p[8:])), LSN(e.Uint64(p[16:]))
	copy(h.frame.Topic[:], p[24:])
	h.frame.Partition = int32(e.Uint32(p[40:]))
	h.frame.Epoch = int32(e.Uint32(p[44:]))
	h.frame.AppendTime = int64(e.Uint64(p[48:]))
	length := e.Uint32(p[56:])
	h.batchCRC = e.Uint32(p[60:])
	if uint64(length) > uint64(maxLength) {
		return h, fmt.Sprintf("frame of %d bytes, more than %d", length, maxLength)
	}
	h.length = int(length)
	return h, ""
}

// size is the frame's bytes in the log.
func (h frameHeader) size() int64 { return frameHeaderSize + int64(h.length) }

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
	formatVersion   = 2

	fileSuffix    = ".wal"
	passingSuffix = ".wal.new" // of a file that is being written
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

// passingName is the name under which a file is written.
func passingName(name string) string { return strings.TrimSuffix(name, fileSuffix) + passingSuffix }

// fileHeader is the header of a file. synced is what was durable when the file was written: its beginning for a new one, the
// recovered end for one that recovery wrote anew. recycled says that behind the frames, and zeros for the header of another, lies what the file held in an
// earlier life; else zeros do.
//
// salt goes into the checksums of the headers of its frames. Who produces knows no salt, and so cannot have anything in a batch that would be taken for a frame
// where frames are searched for behind a broken place.
type fileHeader struct {
	first, synced LSN
	recycled      bool
	salt          uint32
}

// recycledFlag is set in a file's flags.
const recycledFlag = 1

func (h fileHeader) encode() []byte {
	out := make([]byte, fileHeaderSize)
	copy(out, fileMagic[:])
	e := binary.BigEndian
	e.PutUint16(out[4:], formatVersion)
	if h.recycled {
		e.PutUint16(out[6:], recycledFlag)
	}
	e.PutUint64(out[8:], uint64(h.first))
	e.PutUint64(out[16:], uint64(h.synced))
	e.PutUint32(out[24:], h.salt)
	e.PutUint32(out[28:], crc32.Checksum(out[:28], castagnoli))
	return out
}

// decodeFileHeader reads the header of the file that is named after first; the reason says why it is none. An unknown version
// is told apart: it is not damage.
func decodeFileHeader(p []byte, first LSN) (h fileHeader, reason string, unknownVersion bool) {
	e := binary.BigEndian
	if len(p) < fileHeaderSize || [4]byte(p[:4]) != fileMagic {
		return h, "no file header", false
	}
	version := e.Uint16(p[4:])
	h = fileHeader{first: LSN(e.Uint64(p[8:])), synced: LSN(e.Uint64(p[16:]))}
	if version > 1 {
		h.recycled, h.salt = e.Uint16(p[6:])&recycledFlag != 0, e.Uint32(p[24:])
	}
	switch {
	case crc32.Checksum(p[:28], castagnoli) != e.Uint32(p[28:]):
		return h, "file header does not match its checksum", false
	case version == 0 || version > formatVersion:
		return h, fmt.Sprintf("file of version %d, this release reads 1 and %d", version, formatVersion), true
	case h.first != first:
		return h, fmt.Sprintf("file header says first LSN %d", h.first), false
	case h.synced < first:
		return h, fmt.Sprintf("file header says synced up to LSN %d, below its first", h.synced), false
	}
	return h, "", false
}

// appendFrameHeader encodes the header of a frame behind out, for a file with that salt.
func appendFrameHeader(out []byte, salt uint32, at, synced LSN, f Frame) []byte {
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
	e.PutUint32(out[start+4:], crc32.Checksum(out[start+8:start+frameHeaderSize], castagnoli)^salt)
	return out
}

// decodeFrameHeader reads the header of the frame at an LSN of a file with that salt, which can hold left bytes of it at most; the reason says why
// it is none. A length is believed only once it fits: whoever takes memory for it takes no more than the file has.
func decodeFrameHeader(p []byte, salt uint32, at LSN, left int64) (h frameHeader, reason string) {
	if len(p) < frameHeaderSize {
		return h, "frame header ends too early"
	}
	if [4]byte(p[:4]) != frameMagic {
		return h, "no frame header"
	}
	e := binary.BigEndian
	if crc32.Checksum(p[8:frameHeaderSize], castagnoli)^salt != e.Uint32(p[4:]) {
		return h, "frame header does not match its checksum"
	}
	h.lsn, h.synced = frameLSN(p), LSN(e.Uint64(p[16:]))
	copy(h.frame.Topic[:], p[24:])
	h.frame.Partition = int32(e.Uint32(p[40:]))
	h.frame.Epoch = int32(e.Uint32(p[44:]))
	h.frame.AppendTime = int64(e.Uint64(p[48:]))
	length := e.Uint32(p[56:])
	h.batchCRC = e.Uint32(p[60:])
	if h.lsn != at {
		return h, fmt.Sprintf("frame says LSN %d", h.lsn)
	}
	if int64(length) > left-frameHeaderSize {
		return h, fmt.Sprintf("batch of %d bytes ends behind its file", length)
	}
	h.length = int(length)
	return h, ""
}

// frameLSN is the LSN that a frame header states, of which there are frameHeaderSize bytes.
func frameLSN(p []byte) LSN { return LSN(binary.BigEndian.Uint64(p[8:])) }

// size is the frame's bytes in the log.
func (h frameHeader) size() int64 { return frameHeaderSize + int64(h.length) }

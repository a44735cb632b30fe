package kafka

import (
	"net"

	"github.com/twmb/franz-go/pkg/kbin"
)

// fetchAnswer is the answer to a fetch, encoded here rather than by kmsg because its batches are not copied: what is around them is written, and they
// go between as they are.
type fetchAnswer struct {
	code    int16
	session int32
	topics  []fetchedTopic
	brokers []broker // those that any partition is told to turn to
}

type fetchedTopic struct {
	*fetchTopic

	parts []fetchedPart
}

type fetchedPart struct {
	partition  int32
	code       int16
	hwm, start int64
	// committed: the client wants only what is committed by transactions, and is told that none was aborted.
	committed bool
	batches   [][]byte
	// leader is who leads, and at which epoch, where that is news to the client: -1 where it is not.
	leader, leaderEpoch int32
}

// copyBelow is the size of a batch up to which a copy costs less than another piece of the write. Of 1 KiB it already costs more: the copy itself little, but
// the memory for it.
const copyBelow = 512

// Versions of Fetch from which on there is more.
const (
	fetchSession7  = 7
	fetchFlexible  = 12
	fetchByID      = 13
	fetchReplica   = 15 // names its replica elsewhere
	fetchEndpoints = 16
	fetchZstd      = 10 // reads zstd
)

// around is what stands around batches, with the places where they go.
type around struct {
	bytes  []byte
	pieces []piece
	shared int // bytes of the pieces
}

// piece is a batch that goes before bytes[at:].
type piece struct {
	at    int
	batch []byte
}

// batch adds a batch, of which nobody changes a byte before the answer is written.
func (a *around) batch(b []byte) {
	if len(b) < copyBelow {
		a.bytes = append(a.bytes, b...)
		return
	}
	a.pieces = append(a.pieces, piece{at: len(a.bytes), batch: b})
	a.shared += len(b)
}

// buffers is everything in its order.
func (a *around) buffers() net.Buffers {
	out := make(net.Buffers, 0, 2*len(a.pieces)+1)
	from := 0
	for _, p := range a.pieces {
		if p.at > from {
			out = append(out, a.bytes[from:p.at:p.at])
			from = p.at
		}
		out = append(out, p.batch)
	}
	if from < len(a.bytes) {
		out = append(out, a.bytes[from:])
	}
	return out
}

func (a *around) size() int { return len(a.bytes) + a.shared }

// newAround has room for an answer behind so many bytes: for about as many as there are besides the batches that are not copied, and for those.
func (f *fetchAnswer) newAround(before int) around {
	n, pieces := before+fetchOverhead, 0
	for i := range f.topics {
		n += fetchOverhead
		for j := range f.topics[i].parts {
			n += fetchOverhead
			for _, b := range f.topics[i].parts[j].batches {
				if len(b) < copyBelow {
					n += len(b)
				} else {
					pieces++
				}
			}
		}
	}
	return around{bytes: make([]byte, before, n), pieces: make([]piece, 0, pieces)}
}

// appendTo appends an answer of a version, which is 4 to 18.
func (f *fetchAnswer) appendTo(a *around, version int16) {
	flexible := version >= fetchFlexible
	a.bytes = kbin.AppendInt32(a.bytes, 0) // throttled for so long
	if version >= fetchSession7 {
		a.bytes = kbin.AppendInt16(a.bytes, f.code)
		a.bytes = kbin.AppendInt32(a.bytes, f.session)
	}
	a.bytes = appendArrayLen(a.bytes, len(f.topics), flexible)
	for i := range f.topics {
		t := &f.topics[i]
		switch {
		case version >= fetchByID:
			a.bytes = kbin.AppendUuid(a.bytes, t.id)
		case flexible:
			a.bytes = kbin.AppendCompactString(a.bytes, t.name)
		default:
			a.bytes = kbin.AppendString(a.bytes, t.name)
		}
		a.bytes = appendArrayLen(a.bytes, len(t.parts), flexible)
		for j := range t.parts {
			t.parts[j].appendTo(a, version)
		}
		if flexible {
			a.bytes = append(a.bytes, 0) // no tags
		}
	}
	if flexible {
		a.bytes = f.appendBrokers(a.bytes)
	}
}

func (p *fetchedPart) appendTo(a *around, version int16) {
	flexible := version >= fetchFlexible
	b := kbin.AppendInt32(a.bytes, p.partition)
	b = kbin.AppendInt16(b, p.code)
	b = kbin.AppendInt64(b, p.hwm)
	b = kbin.AppendInt64(b, p.hwm) // last stable offset: there are no transactions
	if version >= 5 {
		b = kbin.AppendInt64(b, p.start)
	}
	if flexible {
		b = kbin.AppendCompactNullableArrayLen(b, 0, !p.committed)
	} else {
		b = kbin.AppendNullableArrayLen(b, 0, !p.committed)
	}
	if version >= 11 {
		b = kbin.AppendInt32(b, -1) // no replica is preferred
	}
	size := 0
	for _, batch := range p.batches {
		size += len(batch)
	}
	if flexible {
		b = kbin.AppendUvarint(b, uint32(size)+1)
	} else {
		b = kbin.AppendInt32(b, int32(size))
	}
	a.bytes = b
	for _, batch := range p.batches {
		a.batch(batch)
	}
	if !flexible {
		return
	}
	if p.leader == -1 && p.leaderEpoch == -1 {
		a.bytes = append(a.bytes, 0) // no tags
		return
	}
	const tags, leaderTag, leaderBytes = 1, 1, 9
	a.bytes = append(a.bytes, tags, leaderTag, leaderBytes)
	a.bytes = kbin.AppendInt32(a.bytes, p.leader)
	a.bytes = kbin.AppendInt32(a.bytes, p.leaderEpoch)
	a.bytes = append(a.bytes, 0) // no tags
}

// appendBrokers appends the tags of the whole answer: the brokers' addresses.
func (f *fetchAnswer) appendBrokers(b []byte) []byte {
	if len(f.brokers) == 0 {
		return append(b, 0)
	}
	list := kbin.AppendCompactArrayLen(nil, len(f.brokers))
	for _, x := range f.brokers {
		list = kbin.AppendInt32(list, x.id)
		list = kbin.AppendCompactString(list, x.host)
		list = kbin.AppendInt32(list, x.port)
		list = kbin.AppendCompactNullableString(list, rack(x.zone))
		list = append(list, 0)
	}
	const tags, brokersTag = 1, 0
	b = append(b, tags, brokersTag)
	b = kbin.AppendUvarint(b, uint32(len(list)))
	return append(b, list...)
}

func appendArrayLen(b []byte, n int, flexible bool) []byte {
	if flexible {
		return kbin.AppendCompactArrayLen(b, n)
	}
	return kbin.AppendArrayLen(b, n)
}

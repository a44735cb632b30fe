package kafka

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// produceBody is what follows the header of a produce request.
func produceBody(version int16, q *kmsg.ProduceRequest) []byte {
	q.SetVersion(version)
	return q.AppendTo(nil)
}

// drawProduce makes any produce request there is.
func drawProduce(t *rapid.T) *kmsg.ProduceRequest {
	tags := func() (out kmsg.Tags) {
		for range rapid.IntRange(0, 2).Draw(t, "tags") {
			out.Set(rapid.Uint32().Draw(t, "tag"), rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "value"))
		}
		return out
	}
	q := kmsg.NewPtrProduceRequest()
	if rapid.Bool().Draw(t, "transactional") {
		q.TransactionID = new(rapid.StringN(0, -1, 300).Draw(t, "id"))
	}
	q.Acks, q.UnknownTags = rapid.Int16().Draw(t, "acks"), tags()
	for range rapid.IntRange(0, 4).Draw(t, "topics") {
		topic := kmsg.NewProduceRequestTopic()
		topic.Topic, topic.UnknownTags = rapid.StringN(0, -1, 300).Draw(t, "topic"), tags()
		for range rapid.IntRange(0, 4).Draw(t, "partitions") {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.UnknownTags = rapid.Int32().Draw(t, "partition"), tags()
			if rapid.Bool().Draw(t, "records") {
				p.Records = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "batch")
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		q.Topics = append(q.Topics, topic)
	}
	return q
}

// checkSkim compares the skim with kmsg's decoder, which is what it protects.
func checkSkim(t interface{ Errorf(string, ...any) }, body []byte, version int16) {
	err := skimProduce(body, version)
	if errors.Is(err, errTags) {
		return // a decoder may loop over as many tags as it is told
	}
	q := kmsg.NewPtrProduceRequest()
	q.SetVersion(version)
	decoded := q.ReadFrom(body)
	topics, partitions := len(q.Topics), 0
	for _, topic := range q.Topics {
		partitions += len(topic.Partitions)
	}
	switch {
	case err == nil && decoded != nil:
		t.Errorf("version %d: skimmed %x, which kmsg does not decode: %v", version, body, decoded)
	case err == nil && (topics > maxProduceTopics || partitions > maxProducePartitions):
		t.Errorf("version %d: skimmed %d topics and %d partitions", version, topics, partitions)
	case err != nil && decoded == nil && topics <= maxProduceTopics && partitions <= maxProducePartitions:
		t.Errorf("version %d: refused %x, which kmsg decodes: %v", version, body, err)
	}
}

func TestSkimTakesWhatDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := drawProduce(t)
		version := int16(rapid.IntRange(3, 13).Draw(t, "version"))
		body := produceBody(version, q)
		if err := skimProduce(body, version); err != nil {
			t.Fatalf("version %d of %+v: %v", version, q, err)
		}
		// Cut off, changed, and read as another version.
		checkSkim(t, body[:rapid.IntRange(0, len(body)).Draw(t, "cut")], version)
		changed := slices.Clone(body)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			changed[rapid.IntRange(0, len(changed)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "to")
		}
		checkSkim(t, changed, version)
		checkSkim(t, body, int16(rapid.IntRange(3, 13).Draw(t, "other version")))
	})
}

func TestSkimCapsLists(t *testing.T) {
	of := func(topics, partitions int) *kmsg.ProduceRequest {
		q := kmsg.NewPtrProduceRequest()
		q.Topics = make([]kmsg.ProduceRequestTopic, topics)
		for n := range partitions {
			to := &q.Topics[n%topics]
			to.Partitions = append(to.Partitions, kmsg.NewProduceRequestTopicPartition())
		}
		return q
	}
	for version := int16(3); version <= 13; version++ {
		for _, s := range []struct {
			topics, partitions int
			refused            string
		}{
			{1, 10_000, ""}, {10_000, 10_000, ""}, {10_000, 0, ""},
			{1, 10_001, "partitions"}, {7, 10_001, "partitions"}, {10_001, 0, "topics"},
		} {
			err := skimProduce(produceBody(version, of(s.topics, s.partitions)), version)
			if (err != nil) != (s.refused != "") || err != nil && !strings.Contains(err.Error(), s.refused) {
				t.Errorf("version %d, %d topics, %d partitions: %v", version, s.topics, s.partitions, err)
			}
		}
	}
	// Lists that say they are longer than the body, which a decoder would make room for.
	for _, body := range [][]byte{
		{0xff, 0xff, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff},
		{0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff},
	} {
		if err := skimProduce(body, 8); !errors.Is(err, errCutOff) {
			t.Errorf("%x: %v", body, err)
		}
	}
	// Four thousand million tags in six bytes.
	if err := skimProduce([]byte{0, 0, 1, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}, 9); !errors.Is(err, errTags) {
		t.Error(err)
	}
}

func TestSkimTakesNoMemory(t *testing.T) {
	q := produceOf(topicOf("orders"), -1, plain(t, "a"), plain(t, "b"))
	for version := int16(3); version <= 13; version++ {
		body := produceBody(version, q)
		if n := testing.AllocsPerRun(100, func() { _ = skimProduce(body, version) }); n != 0 {
			t.Errorf("version %d: %v allocations", version, n)
		}
	}
}

func FuzzProduceSkim(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for version := int16(3); version <= 13; version++ {
		q := produceOf(topicOf("t"), -1, plain(f, "a"), nil)
		if random.IntN(2) == 0 {
			q.TransactionID = new("id")
		}
		f.Add(produceBody(version, q), version)
	}
	f.Fuzz(func(t *testing.T, body []byte, version int16) {
		if version < 3 || version > 13 || len(body) > 1<<16 {
			t.Skip()
		}
		checkSkim(t, body, version)
	})
}

package history

import "testing"

// TestUnknownSendBelowAnEarlierAck: a send of unknown outcome began after another was acknowledged at offset 1, and is in the log below that. Its
// offset comes from whoever read it.
func TestUnknownSendBelowAnEarlierAck(t *testing.T) {
	r := tell(t, func(h *History, p Partition) {
		h.Produce(Produce{Call: Call{Process: 1, Invoke: 10, Complete: 20}, Partition: p, Value: 7, Offset: 1})
		h.Produce(Produce{Call: Call{Process: 1, Invoke: 30}, Partition: p, Value: 9, Outcome: Info})
		h.Poll(Poll{Call: Call{Process: 2, Invoke: 41, Complete: 45}, Partition: p, Records: []Record{{0, 9}, {1, 7}}})
		h.FinalRead(FinalRead{Source: "object store", Partition: p, Records: []Record{{0, 9}, {1, 7}}})
	})
	if _, found := r.Anomalies[RealtimeSend]; !found {
		t.Errorf("nothing was found:\n%s", write(t, r))
	}
}

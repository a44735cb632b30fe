package group

import (
	"errors"
	"testing"
	"time"
)

// TestGroupTakesBoundedMemory has a member come whose topic would make the group larger than it may be; who is there stays as it is, and joins again.
func TestGroupTakesBoundedMemory(t *testing.T) {
	c := newChecked(Restored{}, Limits{MaxGroupMemory: 1 << 20}, t.Fatalf)
	join := func(id, newID, topic string, partitions int32) Reply {
		t.Helper()
		out := c.step(Join{Token: c.call(), MemberID: id, NewMemberID: newID, SessionTimeout: time.Minute, Subscription: &Subscription{
			Topics: []string{topic}, Partitions: map[string]int32{topic: partitions},
		}})
		if out.Store != nil {
			out = c.step(Stored{out.Store.Generation})
		}
		if len(out.Replies) != 1 {
			t.Fatalf("%d replies", len(out.Replies))
		}
		return out.Replies[0]
	}
	empty := c.Memory()
	if r := join("", "a", "large", 5000); r.Err != nil || len(r.Join.Assigned) != 5000 {
		t.Fatalf("a first member: %v", r.Err)
	}
	full := c.Memory()
	if full > 1<<20 || full < 5000*100 {
		t.Errorf("5,000 partitions count for %d bytes", full)
	}
	if r := join("", "b", "more", 1000); !errors.Is(r.Err, ErrGroupMaxSizeReached) {
		t.Errorf("a second one that makes it too large: %v", r.Err)
	}
	if c.Memory() != full || c.Size() != 1 {
		t.Errorf("who was refused has left %d bytes, %d members", c.Memory()-full, c.Size())
	}
	if r := join("a", "", "large", 5000); r.Err != nil {
		t.Errorf("the first one joins again: %v", r.Err)
	}
	c.step(Leave{Token: c.call(), Members: []LeavingMember{{MemberID: "a"}}})
	if c.Memory() != empty {
		t.Errorf("without members the group takes %d bytes, %d before", c.Memory(), empty)
	}
}

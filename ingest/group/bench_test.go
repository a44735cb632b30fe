package group

import (
	"fmt"
	"testing"
	"time"
)

func BenchmarkRebalance50(b *testing.B)   { benchmarkRebalance(b, 50, 500) }
func BenchmarkRebalance1000(b *testing.B) { benchmarkRebalance(b, 1000, 10_000) }

// benchmarkRebalance is one whole rebalance of a stable group: its members join, the generation is stored, all are answered.
func benchmarkRebalance(b *testing.B, members int, partitions int32) {
	for _, kind := range []string{"subscribed", "protocol"} {
		b.Run(kind, func(b *testing.B) {
			now := time.Unix(1_000_000, 0)
			g := New("g", Restored{}, Limits{})
			joins := make([]Join, members)
			token := Token(0)
			for i := range joins {
				joins[i] = Join{NewMemberID: fmt.Sprintf("member-%04d", i), SessionTimeout: 30 * time.Second}
				if kind == "subscribed" {
					joins[i].Subscription = &Subscription{Topics: []string{"orders"}, Partitions: map[string]int32{"orders": partitions}}
				} else {
					joins[i].ProtocolType = "consumer"
					joins[i].Protocols = []Protocol{{Name: "range", Metadata: make([]byte, 100)}, {Name: "roundrobin", Metadata: make([]byte, 100)}}
				}
			}
			joinAll := func() {
				for i := range joins {
					token++
					joins[i].Token = token
					g.Step(now, joins[i])
				}
			}
			storeAll := func() {
				for g.storing {
					for _, r := range g.Step(now, Stored{Generation: g.generation}).Replies {
						if r.Err != nil {
							b.Fatal(r.Err)
						}
						join := &joins[int(r.Token-1)%members]
						join.MemberID = r.Join.MemberID
						if join.Subscription != nil {
							join.Subscription.Owned = r.Join.Assigned
						}
					}
				}
			}
			joinAll() // the first one's generation is being stored, the others come meanwhile
			storeAll()
			if len(g.members) != members || g.withheld || g.told != 2 {
				b.Fatal("not all are in")
			}
			b.ResetTimer()
			for b.Loop() {
				g.prepare()
				joinAll()
				storeAll()
				if g.rebalancing() {
					b.Fatal("not complete")
				}
			}
		})
	}
}

// BenchmarkHeartbeat is one heartbeat in a group of 1,000.
func BenchmarkHeartbeat(b *testing.B) {
	now := time.Unix(1_000_000, 0)
	g := New("g", Restored{}, Limits{})
	for i := range 1000 {
		g.Step(now, Join{
			Token: Token(i), NewMemberID: fmt.Sprintf("member-%04d", i), SessionTimeout: 30 * time.Second,
			Subscription: &Subscription{Topics: []string{"orders"}, Partitions: map[string]int32{"orders": 1000}},
		})
	}
	for g.storing {
		g.Step(now, Stored{Generation: g.generation})
	}
	for b.Loop() {
		if out := g.Step(now, Heartbeat{MemberID: "member-0007", Generation: g.told}); out.Replies[0].Err != nil {
			b.Fatal(out.Replies[0].Err)
		}
	}
}

// BenchmarkAssignUnequal1000 gives 10,000 partitions of 100 topics to members of which hardly two subscribe to the same.
func BenchmarkAssignUnequal1000(b *testing.B) {
	members := make([]AssignMember, 1000)
	partitions := make(map[string]int32)
	for i := range 100 {
		partitions[fmt.Sprint("t", i)] = 100
	}
	for i := range members {
		members[i].ID = fmt.Sprintf("m%04d", i)
		for j := range 100 {
			if (i+j)%(2+i%7) == 0 {
				members[i].Topics = append(members[i].Topics, fmt.Sprint("t", j))
			}
		}
	}
	for b.Loop() {
		Assign(CooperativeSticky, members, partitions)
	}
}

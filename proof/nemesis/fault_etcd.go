package nemesis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// kindCompacted takes history away that the journal of leaders may still need.
const kindCompacted = "etcd compacted under watch"

// killEtcdLeader ends etcd's leader as a crash would. Heal starts it again.
type killEtcdLeader struct {
	Cluster *Cluster
	killed  *Etcd
}

func (f *killEtcdLeader) Name() string { return "kill -9 " + memberName(f.killed) }

func memberName(e *Etcd) string {
	if e == nil {
		return "etcd's leader"
	}
	return e.name + ", etcd's leader"
}

func (f *killEtcdLeader) Inject(ctx context.Context) error {
	leader, err := f.Cluster.EtcdLeader(ctx)
	if err != nil {
		return err
	}
	f.killed = leader
	leader.Kill()
	return nil
}

func (f *killEtcdLeader) Heal(context.Context) error {
	if f.killed == nil {
		return nil
	}
	return f.killed.Start()
}

// pauseEtcd stops members without their noticing: with half of them or more, etcd decides nothing any more.
type pauseEtcd struct{ Members []*Etcd }

func (f *pauseEtcd) Name() string {
	names := make([]string, 0, len(f.Members))
	for _, e := range f.Members {
		names = append(names, e.name)
	}
	return "pause " + strings.Join(names, " and ")
}

func (f *pauseEtcd) Inject(context.Context) error {
	for _, e := range f.Members {
		if err := e.Pause(); err != nil {
			return err
		}
	}
	return nil
}

func (f *pauseEtcd) Heal(context.Context) error {
	var failed []error
	for _, e := range f.Members {
		failed = append(failed, e.Resume())
	}
	return errors.Join(failed...)
}

// repeated does something beside the caller until it is healed.
type repeated struct {
	cancel context.CancelFunc
	work   sync.WaitGroup
	times  int
	err    error // the last failure
}

func (r *repeated) begin(every time.Duration, do func(context.Context) error) {
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background()) // lives until Heal, whatever the life of Inject's
	r.work.Go(func() {
		for wait(ctx, every) {
			if err := do(ctx); err != nil {
				r.err = err
			} else {
				r.times++
			}
		}
	})
}

func (r *repeated) end() {
	if r.cancel != nil {
		r.cancel()
		r.work.Wait()
	}
}

// churnEtcdLeader kills etcd's leader and starts it again, each half of a node's lease: each election sets every lease back to
// its full length, so that a node that is gone is noticed late.
type churnEtcdLeader struct {
	Cluster *Cluster
	Every   time.Duration
	repeated
}

func (f *churnEtcdLeader) Name() string {
	return fmt.Sprintf("kill -9 etcd's leader every %v", f.Every)
}

func (f *churnEtcdLeader) Inject(context.Context) error {
	f.begin(f.Every, func(ctx context.Context) error {
		leader, err := f.Cluster.EtcdLeader(ctx)
		if err != nil {
			return err
		}
		leader.Kill()
		wait(ctx, 300*time.Millisecond) // started again also when ctx ended
		return leader.Start()
	})
	return nil
}

func (f *churnEtcdLeader) Heal(context.Context) error {
	f.end()
	if f.times == 0 {
		return fmt.Errorf("no leader of etcd was killed: %w", f.err)
	}
	return nil
}

// compactEtcd forgets etcd's history all the time, so that whoever watches and lags has to begin anew.
type compactEtcd struct {
	Cluster *Cluster
	Every   time.Duration
	repeated
}

func (f *compactEtcd) Name() string { return fmt.Sprintf("compact etcd every %v", f.Every) }

func (f *compactEtcd) Inject(context.Context) error {
	f.begin(f.Every, func(ctx context.Context) error {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		answer, err := f.Cluster.etcdClient.Get(attempt, "nothing")
		if err != nil {
			return err
		}
		_, err = f.Cluster.etcdClient.Compact(attempt, answer.Header.GetRevision())
		return err
	})
	return nil
}

func (f *compactEtcd) Heal(context.Context) error {
	f.end()
	if f.times == 0 && f.err != nil {
		return fmt.Errorf("etcd was never compacted: %w", f.err)
	}
	return nil
}

func etcdKinds() []Kind {
	return []Kind{
		{Name: "etcd leader killed", Class: OfEtcd, New: func(c *Cluster, _ Random) Fault {
			return &killEtcdLeader{Cluster: c}
		}},
		{Name: "etcd leader killed again and again", Class: OfEtcd, Lasts: 2 * LeaseTTL, New: func(c *Cluster, _ Random) Fault {
			return &churnEtcdLeader{Cluster: c, Every: LeaseTTL / 2}
		}},
		{Name: "etcd quorum lost", Class: OfEtcd, New: func(c *Cluster, random Random) Fault {
			members := append([]*Etcd(nil), c.etcd...)
			spared := random.IntN(len(members))
			members = append(members[:spared], members[spared+1:]...)
			return &pauseEtcd{Members: members[:len(c.etcd)/2+1]}
		}, Unfit: func(c *Cluster) string {
			if len(c.etcd) < 3 {
				return "needs three members of etcd"
			}
			return ""
		}},
		{Name: kindCompacted, Class: OfEtcd, New: func(c *Cluster, _ Random) Fault {
			return &compactEtcd{Cluster: c, Every: 200 * time.Millisecond}
		}},
		{Name: "etcd leader isolated", Class: OfEtcd, New: func(c *Cluster, _ Random) Fault {
			return &isolateEtcdLeader{Cluster: c}
		}},
		{Name: "etcd–etcd cut", Class: OfEtcd, New: func(c *Cluster, random Random) Fault {
			from := random.IntN(len(c.etcd))
			to := (from + 1 + random.IntN(len(c.etcd)-1)) % len(c.etcd)
			// Both members dial each other: without the second the first link would be enough for them.
			return &cutLinks{Links: []*Link{c.peerLinks[pair{from, to}], c.peerLinks[pair{to, from}]}, Ways: BothWays}
		}},
		{Name: "etcd–etcd cut one way", Class: OfEtcd, New: func(c *Cluster, random Random) Fault {
			from := random.IntN(len(c.etcd))
			to := (from + 1 + random.IntN(len(c.etcd)-1)) % len(c.etcd)
			return &cutLinks{Links: []*Link{c.peerLinks[pair{from, to}]}, Ways: BothWays}
		}},
	}
}

// isolateEtcdLeader cuts every link between etcd's leader and the other members. Clients still reach it.
type isolateEtcdLeader struct {
	Cluster *Cluster
	leader  *Etcd
	cut     cutLinks
}

func (f *isolateEtcdLeader) Name() string { return "isolate " + memberName(f.leader) }

func (f *isolateEtcdLeader) Inject(ctx context.Context) error {
	leader, err := f.Cluster.EtcdLeader(ctx)
	if err != nil {
		return err
	}
	f.leader = leader
	f.cut.Ways = BothWays
	for between, link := range f.Cluster.peerLinks {
		if between.from == leader.index || between.to == leader.index {
			f.cut.Links = append(f.cut.Links, link)
		}
	}
	return f.cut.Inject(ctx)
}

func (f *isolateEtcdLeader) Heal(ctx context.Context) error { return f.cut.Heal(ctx) }

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func withCluster(t *testing.T) (*fakeCluster, func(environ ...string) *testApp) {
	t.Helper()
	s, newApp := newFakeServer(t)
	s.cluster.nodes = []*tidemarkv1.Node{
		{Id: "n1", Alive: true, Http: "http://10.0.0.1:8640", Zone: "a", Version: "v1", Controller: true, Partitions: 3, DiskPartitions: 1, Roles: []string{"ingest"}},
		{Id: "n2", Partitions: 2, DiskPartitions: 2, Attention: "2 partitions wait for this node to come back"},
	}
	s.cluster.leaders = []*tidemarkv1.Leader{
		{Topic: "kept", Partition: 0, Node: "n2", Epoch: 4, WaitsFor: "node n2 is not alive"},
		{Topic: "orders", Partition: 0, Node: "n1", Epoch: 1, Alive: true},
	}
	s.cluster.lost = []*tidemarkv1.LostRange{{Topic: "kept", Partition: 0, From: 10, To: 10 + 1<<32}, {Topic: "kept", Partition: 1, From: 0, To: 1 << 32}}
	return s.cluster, newApp
}

func TestClusterCommands(t *testing.T) {
	_, newApp := withCluster(t)
	newApp().expect(t, 0, "nodes       2, 1 alive\ntopics      2\npartitions  5, 1 without a leader\nrevision    42\n\nnode n2: 2 partitions wait", "", "cluster", "info")
	newApp().expect(t, 0, `"leaderless": 1`, "", "cluster", "info", "-o", "json")
	newApp().expect(t, 0, "node,state,controller,partitions,on_disk,http,zone,version,attention\nn1,ready,*,3,1,http://10.0.0.1:8640,a,v1,\nn2,away,,2,2,,,,2 partitions wait", "", "cluster", "nodes", "-o", "csv")
	newApp().expect(t, 0, "NODE  STATE  CONTROLLER", "", "cluster", "nodes")
	newApp().expect(t, 0, `"attention": "2 partitions wait`, "", "cluster", "nodes", "-o", "json")
	newApp().expect(t, 0, "topic,partition,node,epoch,alive,waits_for\nkept,0,n2,4,no,node n2 is not alive\norders,0,n1,1,yes,\n", "", "cluster", "leaders", "-o", "csv")
	newApp().expect(t, 0, "orders  0          n1    1      yes", "", "cluster", "leaders", "orders")
	newApp().expect(t, 0, `"waits_for": ""`, "", "cluster", "leaders", "orders", "-o", "json")
	newApp().expect(t, 0, "n1\nn2\n", "ShellCompDirective", "__complete", "cluster", "drain", "n")
	newApp().expect(t, 0, "n2\n", "ShellCompDirective", "__complete", "cluster", "forget-node", "n2")
	for _, args := range [][]string{{"drain"}, {"drain", "a", "b"}, {"forget-node"}, {"nods"}, {"info", "x"}} {
		if code := newApp().exec(append([]string{"cluster"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

func TestClusterDrain(t *testing.T) {
	c, newApp := withCluster(t)
	newApp().expect(t, 0, "node n1 is being drained: 3 partitions left\n", "", "cluster", "drain", "n1", "--wait=false")
	newApp().expect(t, 0, "node n1 may lead again\n", "", "cluster", "drain", "n1", "--cancel")
	newApp().expect(t, 0, "node n1 is drained: nothing is left on it\n", "", "cluster", "drain", "n1")
	if n := c.node("n1"); n.GetPartitions() != 0 || !n.GetDraining() {
		t.Errorf("it returned with %v", n)
	}
	newApp().expect(t, 0, `"result": "drained"`, "", "cluster", "drain", "n1", "-o", "json")
	newApp().expect(t, exitNotFound, "", "tidemark: drain node \"n9\": unknown node: n9\n`tidemark cluster nodes` shows", "cluster", "drain", "n9")
	// What only a disk has does not move from a node that is away: nobody is kept waiting for it.
	newApp().expect(t, exitFailed, "", "drain node \"n2\": 2 partitions wait for this node to come back\n", "cluster", "drain", "n2")
}

// Somebody else changes their mind, or this one does: the command says how things stand.
func TestClusterDrainEndsEarly(t *testing.T) {
	c, newApp := withCluster(t)
	looks := 0
	c.looked = func() {
		if looks++; looks == 2 {
			c.node("n1").Draining = false
		}
	}
	newApp().expect(t, exitFailed, "", "somebody has cancelled it", "cluster", "drain", "n1")

	c, newApp = withCluster(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	c.looked = interrupt
	a := newApp()
	if code := a.run(ctx, []string{"cluster", "drain", "n1"}); code != exitInterrupted || !strings.Contains(a.err.String(), "node n1 is still being drained: 3 partitions left\nit goes on by itself") {
		t.Errorf("exit %d: %s", code, &a.err)
	}
}

func TestClusterForgetNode(t *testing.T) {
	c, newApp := withCluster(t)
	newApp().expect(t, 0, "node n2 would be forgotten: 2 partitions go to others as they are, 2 partitions would lose what was not flushed\n\nTOPIC  PARTITION  LOST-FROM  GOES-ON-AT\nkept   0          10         4294967306\n", "",
		"cluster", "forget-node", "n2", "--dry-run")
	newApp().expect(t, exitUsage, "", "2 partitions would lose what was not flushed\nlook with --dry-run", "cluster", "forget-node", "n2")
	newApp().expect(t, exitFailed, "", "the node is alive: n1\n`tidemark cluster drain` moves", "cluster", "forget-node", "n1")
	for _, r := range c.asked {
		if !r.GetDryRun() {
			t.Fatal("a node was forgotten that nobody has confirmed")
		}
	}
	newApp().expect(t, 0, `"from": 10`, "", "cluster", "forget-node", "n2", "--yes", "-o", "json")
	if last := c.asked[len(c.asked)-1]; last.GetDryRun() {
		t.Error("--yes did nothing")
	}
}

// On a terminal only the node's name is a yes, and what is lost stands above the question.
func TestClusterForgetNodeAsksForItsName(t *testing.T) {
	for answer, code := range map[string]int{"n2\n": 0, "y\n": 1, "yes\n": 1, "\n": 1, "": 1, "n1\n": 1} {
		c, newApp := withCluster(t)
		a := newApp()
		a.stdinTTY, a.stderrTTY, a.stdin = true, true, strings.NewReader(answer)
		if got := a.exec("cluster", "forget-node", "n2"); got != code {
			t.Errorf("%q: exit %d, want %d", answer, got, code)
		}
		if !strings.Contains(a.err.String(), "kept   1          0          4294967296\n\nType the node's name") {
			t.Errorf("it asked %q", &a.err)
		}
		if forgotten := !c.asked[len(c.asked)-1].GetDryRun(); forgotten != (code == 0) {
			t.Errorf("%q: forgotten %v", answer, forgotten)
		}
	}
}

func withGroups(t *testing.T) (*fakeGroups, func(environ ...string) *testApp) {
	t.Helper()
	s, newApp := newFakeServer(t)
	s.groups.groups = map[string]*tidemarkv1.DescribeGroupResponse{
		"billing": {
			Group: "billing", State: "Stable", Coordinator: "n1", Generation: 3, ProtocolType: "tidemark", Strategy: "cooperative-sticky",
			Members: []*tidemarkv1.GroupMember{{MemberId: "m-1", ClientId: "app", Host: "10.0.0.9", Assigned: []*tidemarkv1.TopicPartitions{{Topic: "orders", Partitions: []int32{0, 1}}}}},
			Lag: []*tidemarkv1.GroupLag{
				{Topic: "orders", Partition: 0, MemberId: "m-1", Committed: 10, HighWatermark: 13, Lag: 3, LagSeconds: 2.5},
				{Topic: "orders", Partition: 1, MemberId: "m-1", Committed: -1, HighWatermark: 4, Lag: 4, LagSeconds: 90},
			},
		},
		"idle": {Group: "idle", State: "Empty", Coordinator: "n2", Lag: []*tidemarkv1.GroupLag{{Topic: "orders", Committed: 1, Lag: -1, LagSeconds: -1}}},
	}
	return s.groups, newApp
}

func TestGroupCommands(t *testing.T) {
	g, newApp := withGroups(t)
	newApp().expect(t, 0, "group,state,members,coordinator,protocol\nbilling,Stable,1,n1,tidemark\nidle,Empty,0,n2,\n", "", "group", "list", "-o", "csv")
	newApp().expect(t, 0, `"coordinator": "n2"`, "", "group", "list", "-o", "json")
	newApp().expect(t, 0, "lag          7 records, 1m30s\n\nMEMBER  INSTANCE  CLIENT  HOST      ASSIGNED\nm-1               app     10.0.0.9  orders:0,1\n\nTOPIC   PARTITION  COMMITTED  END  LAG  BEHIND  MEMBER\norders  0          10         13   3    2.5s    m-1\norders  1          -          4    4    1m30s   m-1\n", "",
		"group", "describe", "billing")
	newApp().expect(t, 0, "lag          not known, -\n", "", "group", "describe", "idle")
	newApp().expect(t, 0, `"committed": null`, "", "group", "describe", "billing", "-o", "json")
	newApp().expect(t, 0, "billing\nidle\n", "ShellCompDirective", "__complete", "group", "describe", "")
	newApp().expect(t, exitNotFound, "", "there is no group \"x\"\n`tidemark group list` shows", "group", "describe", "x")

	newApp().expect(t, 0, "topic,partition,offset\norders,3,7\n", "", "group", "seek", "idle", "--topic", "orders", "--to", "start", "-o", "csv")
	newApp().expect(t, 0, `"offset": 7`, "", "group", "seek", "idle", "--topic", "orders", "--partition", "1,3", "--to", "42", "-o", "json")
	newApp().expect(t, 0, "orders", "", "group", "seek", "idle", "--topic", "orders", "--to", "2026-11-24T00:00:00Z")
	newApp().expect(t, 0, "orders", "", "group", "seek", "idle", "--topic", "orders", "--to", "end")
	got := fmt.Sprint(g.sought[0].GetStart(), g.sought[1].GetOffset(), g.sought[1].GetPartitions(), g.sought[2].GetTimestampMs(), g.sought[3].GetEnd())
	if want := fmt.Sprint(true, 42, []int32{1, 3}, epoch.UnixMilli(), true); got != want {
		t.Errorf("sought %s, want %s", got, want)
	}
	newApp().expect(t, exitFailed, "", "has members\nstop its members first", "group", "seek", "billing", "--topic", "orders", "--to", "end")

	newApp().expect(t, 0, "group idle deleted\n", "", "group", "delete", "idle")
	newApp().expect(t, exitNotFound, "", "no group \"idle\"", "group", "delete", "idle")
	a := newApp()
	a.stdinTTY, a.stderrTTY, a.stdin = true, true, strings.NewReader("n\n")
	if code := a.exec("group", "delete", "billing"); code != exitFailed || g.groups["billing"] == nil {
		t.Errorf("exit %d without a yes", code)
	}
	for _, args := range [][]string{
		{"describe"}, {"describe", "a", "b"}, {"delete"}, {"lst"}, {"seek", "a"}, {"seek", "a", "--topic", "t"}, {"seek", "a", "--to", "end"},
		{"seek", "a", "--topic", "t", "--to", "yesterday"}, {"seek", "a", "--topic", "t", "--to", "end", "--partition", "-1"},
	} {
		if code := newApp().exec(append([]string{"group"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

// A member of a group passes its flags on, and what was printed is committed however the command ends, when it was printed.
func TestConsumeGroup(t *testing.T) {
	s, newApp := withTopic(t)
	a := newApp()
	a.stdin = strings.NewReader("a\nb\nc\n")
	a.expect(t, 0, "3 records", "", "produce", "t")
	var committed []bool
	s.closing = func(done bool) error { committed = append(committed, done); return nil }
	newApp().expect(t, 0, "a\nb\n", "", "consume", "t", "--group", "g", "-n", "2", "--instance-id", "i", "--strategy", "range", "--commit-every", "1s", "--from", "end", "--from", "start")
	if o := s.consumed[len(s.consumed)-1]; o.group != "g" || o.instance != "i" || o.strategy != "range" || o.commitEvery.Seconds() != 1 || !o.start {
		t.Errorf("options %+v", o)
	}
	a = newApp()
	a.stdout = brokenPipe{}
	a.expect(t, 0, "", "", "consume", "t", "--group", "g")
	s.closing = func(bool) error { return errFake }
	newApp().expect(t, exitFailed, "a\n", "disk on fire", "consume", "t", "--group", "g", "-n", "1")
	if fmt.Sprint(committed) != "[true false]" {
		t.Errorf("what was printed was committed: %v, want for the first and not for the second", committed)
	}
	for _, args := range [][]string{
		{"--instance-id", "i"}, {"--strategy", "range"}, {"--commit-every", "1s"}, {"--group", "g", "-p", "1"}, {"--group", "g", "--until-end"},
		{"--group", "g", "--from", "7"}, {"--group", "g", "--commit-every", "0s"}, {"--group", "g", "--strategy", "x"},
	} {
		if code := newApp().exec(append([]string{"consume", "t"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

// One of several servers will do.
func TestSeveralServers(t *testing.T) {
	s, newApp := withTopic(t)
	a := newApp()
	var server string
	for _, e := range a.environ() {
		if v, ok := strings.CutPrefix(e, "TIDEMARK_SERVER="); ok {
			server = v
		}
	}
	for range 5 { // whichever of them comes first
		newApp().expect(t, 0, "t", "", "topic", "list", "--server", "http://127.0.0.1:1,"+server)
	}
	newTestApp().expect(t, exitUsage, "", "commas between several", "topic", "list", "--server", server+",nonsense")
	a = newApp()
	a.expect(t, 0, "MB", "", "bench", "produce", "--records", "10", "--no-limits", "--server", server+",http://127.0.0.1:1")
	if len(s.topics) != 1 {
		t.Errorf("topics are left: %v", sortedKeys(s.topics))
	}
}

// Package nemesis runs a whole Tidemark of real processes on this machine, breaks it on purpose while clients work, and looks
// afterwards whether every promise was kept.
//
// # What runs
//
//	clients ──► client→n1 ──► tidemark serve n1 ──► n1→etcd1, n1→etcd2, n1→etcd3 ──► etcd1, etcd2, etcd3
//	            client→n2     tidemark serve n2     n1→store ──► gate ──► MinIO       │
//	            client→n3     tidemark serve n3     nodes→n2, nodes→n3                 └─ etcd1→etcd2, … (six of them)
//	            kafka→n1, kafka→n2, kafka→n3, with Kafka's clients
//
// Every arrow with a name is a Link: a TCP proxy in this process that can be cut in both directions or in one, slowed down, or
// made to reset its connections. The Gate is an HTTP proxy in front of the object store that refuses, hangs, cuts answers short,
// or does what it is asked and then says that it failed. Processes are killed, stopped (SIGSTOP) and started again. So a fault
// hits exactly one link of one node, and needs no rights on the machine.
//
// etcd knows one URL per member, the same for all who call it, or its members would not agree on who they are. To tell
// etcd1→etcd2 from etcd3→etcd2 each member dials out through a SOCKS5 server of its own (HTTP_PROXY, which etcd's peer transport
// obeys), which takes the link from that member to the one that is called. Members advertise addresses of a network that is
// reserved for documentation (192.0.2.0/24), since no HTTP_PROXY applies to loopback addresses; nothing ever dials them.
//
// A node advertises the link nodes→nX: to other nodes, and to clients that go straight to leaders (NewClusterClient). Clients that
// have everything forwarded go over client→nX (NewClient). To Kafka's clients it advertises the link kafka→nX, which has the faults of client→nX.
//
// # How a run goes
//
// Plan draws a schedule from a seed before anything starts, so that a run can be had again as far as processes on a real machine
// can: a fault lasts about 10 s; every 30 s the mix changes; a quarter of the time there is none. Meanwhile Workload produces
// records with unique ids at a fixed pace, consumes them, and asks SQL for count and sum; each of these is told to a history.History
// with what is known of its outcome. Consumers are a group (Grouped), which they also leave and
// join again; else each is told its partitions (Assigned). Then all faults are healed, everything that was produced is waited for, clients that are new read
// the whole log through each node, SQL counts it once more, and the history is checked.
//
// Beside the clients, a journal follows everything that nodes write to etcd, past every link. It knows who appended which offsets at
// which epoch, so that the history is checked for two leaders too, and that each batch of the log at the end has the epoch at which
// it was committed; and it knows how long each step of a change of leaders took (handover).
//
// Who produces, and who is in the group, are clients of ours or Kafka's (Options.Kafka, WorkloadConfig.Kafka, KafkaGrouped): franz-go as its users have it,
// with an idempotent producer and a cooperative group, or one of KIP-848, whose promises and callbacks are told to the same history. What it retries is one send
// or one commit of the history; what it cannot say the outcome of is unknown. Queries, final reads and everything about topics are ours in either case.
//
// Two proofs break one thing only, and measure what it costs: TestKillLeaders kills the node that leads most partitions again and again,
// TestDrainUnderLoad has the command drain one node after the other.
//
// # Ends
//
// Processes listen on loopback addresses only, at ports below those that the system gives to outgoing connections. Each process
// is a group of its own, is killed when the test ends however that happens (on Linux also when the test is killed), and is awaited.
package nemesis

package meta

// The reads of an Index, each under the Follower's lock.

// TopicsRevision is Index.TopicsRevision.
func (f *Follower) TopicsRevision() Revision {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.TopicsRevision()
}

// Topic is Index.Topic.
func (f *Follower) Topic(name string) (Topic, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Topic(name)
}

// TopicByID is Index.TopicByID.
func (f *Follower) TopicByID(id TopicID) (Topic, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.TopicByID(id)
}

// Topics is Index.Topics.
func (f *Follower) Topics() []Topic {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Topics()
}

// Head is Index.Head.
func (f *Follower) Head(id NodeID) (Head, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Head(id)
}

// Start is Index.Start.
func (f *Follower) Start(p Partition) int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Start(p)
}

// End is Index.End.
func (f *Follower) End(p Partition) int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.End(p)
}

// Hole is Index.Hole.
func (f *Follower) Hole(p Partition) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Hole(p)
}

// Lost is Index.Lost.
func (f *Follower) Lost(p Partition) []OffsetRange {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Lost(p)
}

// Lookup is Index.Lookup.
func (f *Follower) Lookup(p Partition, offset int64) (Block, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Lookup(p, offset)
}

// LookupTime is Index.LookupTime.
func (f *Follower) LookupTime(p Partition, timestampMs int64) (Block, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.LookupTime(p, timestampMs)
}

// LookupNewest is Index.LookupNewest.
func (f *Follower) LookupNewest(p Partition) (Block, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.LookupNewest(p)
}

// LookupEpoch is Index.LookupEpoch.
func (f *Follower) LookupEpoch(p Partition, epoch Epoch) (first int64, before Epoch, later bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.LookupEpoch(p, epoch)
}

// Blocks is Index.Blocks.
func (f *Follower) Blocks(p Partition) []Block {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Blocks(p)
}

// Producers is Index.Producers.
func (f *Follower) Producers(p Partition) []L0Producer {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Producers(p)
}

// Records is Index.Records.
func (f *Follower) Records(node NodeID) []*L0Record {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Records(node)
}

// Names is Index.Names.
func (f *Follower) Names(object string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Names(object)
}

// IsGarbage is Index.IsGarbage.
func (f *Follower) IsGarbage(name string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.IsGarbage(name)
}

// Leader is Index.Leader.
func (f *Follower) Leader(p Partition) (Leadership, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Leader(p)
}

// Assignment is Index.Assignment.
func (f *Follower) Assignment(node NodeID) (Assignment, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Assignment(node)
}

// Assignments is Index.Assignments.
func (f *Follower) Assignments() []Assignment {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Assignments()
}

// Released is Index.Released.
func (f *Follower) Released(node NodeID, p Partition, epoch Epoch) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Released(node, p, epoch)
}

// ReleasedBy is Index.ReleasedBy.
func (f *Follower) ReleasedBy(node NodeID) map[Partition]Epoch {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.ReleasedBy(node)
}

// Node is Index.Node.
func (f *Follower) Node(id NodeID) (NodeInfo, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Node(id)
}

// Nodes is Index.Nodes.
func (f *Follower) Nodes() []NodeInfo {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Nodes()
}

// Controller is Index.Controller.
func (f *Follower) Controller() (NodeID, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Controller()
}

// Drains is Index.Drains.
func (f *Follower) Drains() map[NodeID]Drain {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Drains()
}

// LetGo is Index.LetGo.
func (f *Follower) LetGo(node NodeID, p Partition, epoch Epoch) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.LetGo(node, p, epoch)
}

// LetGoRevision is Index.LetGoRevision.
func (f *Follower) LetGoRevision() Revision {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.LetGoRevision()
}

// PlaceRevision is Index.PlaceRevision.
func (f *Follower) PlaceRevision() Revision {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.PlaceRevision()
}

// NodesRevision is Index.NodesRevision.
func (f *Follower) NodesRevision() Revision {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.NodesRevision()
}

// HeldBack is Index.HeldBack.
func (f *Follower) HeldBack(node NodeID) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.HeldBack(node)
}

// Room is Index.Room.
func (f *Follower) Room(partitions int32) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.Room(partitions)
}

// Changed is closed when the follower has applied another revision, or cannot any more.
func (f *Follower) Changed() <-chan struct{} {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.moved
}

package ingest

// GroupSeat is the node's present incarnation as groups see it; UNAVAILABLE or SHUTTING_DOWN when there is none.
func (n *Node) GroupSeat() (GroupSeat, error) {
	i, refused := n.serving()
	if refused != nil {
		return GroupSeat{}, refused
	}
	return GroupSeat{Context: i.ctx, Registration: i.registration, Index: i.follower}, nil
}

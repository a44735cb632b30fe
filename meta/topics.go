package meta

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// CreateTopic makes a topic. A name that is taken is ErrTopicExists. Its partitions have no leader yet: the controller gives them one.
func (c *Client) CreateTopic(ctx context.Context, name string, partitions int32, config TopicConfig) (Topic, error) {
	if err := ValidateTopicName(name); err != nil {
		return Topic{}, err
	}
	if err := ValidatePartitions(partitions); err != nil {
		return Topic{}, err
	}
	id, err := NewTopicID(c.random)
	if err != nil {
		return Topic{}, err
	}
	topic := Topic{Name: name, ID: id, Partitions: partitions, Config: config, Created: c.clock.Now()}
	// The mark of its deletion stands in the way of a late copy, which would bring back a topic that was deleted since.
	key, deleted := c.keys.Topic(name), c.keys.Deleted(id)
	txn := Txn{
		If:   []Compare{IfAbsent(key), IfAbsent(deleted)},
		Then: []Op{PutOp(key, encodeTopic(topic))},
		Else: []Op{GetOp(key), GetOp(deleted)},
	}
	err = c.retry(ctx, "create topic "+name, func() (bool, error) {
		result, err := c.kv.Txn(ctx, txn)
		if err != nil {
			return false, err
		}
		if result.Succeeded {
			topic.Revision, topic.CreateRevision = result.Revision, result.Revision
			return true, nil
		}
		if result.Gets[1] != nil {
			return true, fmt.Errorf("%w: %s was deleted while it was made", ErrUnknownTopic, name)
		}
		if result.Gets[0] == nil {
			return false, nil
		}
		found, err := decodeTopic(name, *result.Gets[0])
		if err != nil {
			return true, err
		}
		if found.ID == id { // an earlier copy of ours
			topic = found
			return true, nil
		}
		return true, fmt.Errorf("%w: %s", ErrTopicExists, name)
	})
	return topic, err
}

// readTopic reads one topic; ErrUnknownTopic when there is none.
func (c *Client) readTopic(ctx context.Context, name string) (Topic, error) {
	if err := ValidateTopicName(name); err != nil {
		return Topic{}, err
	}
	kv, _, err := c.kv.Get(ctx, c.keys.Topic(name))
	switch {
	case err != nil:
		return Topic{}, err
	case kv == nil:
		return Topic{}, fmt.Errorf("%w: %q", ErrUnknownTopic, name)
	}
	return decodeTopic(name, *kv)
}

// changeTopic writes what change makes of a topic, until it applies to the topic as it is. Change sees every attempt's topic,
// and says false when there is nothing to write.
func (c *Client) changeTopic(ctx context.Context, name string, change func(t *Topic) (bool, error)) (Topic, error) {
	var topic Topic
	err := c.retry(ctx, "change topic "+name, func() (bool, error) {
		t, err := c.readTopic(ctx, name)
		if err != nil {
			return !retryable(err), err
		}
		before := t
		write, err := change(&t)
		if err != nil || !write {
			topic = t
			return true, err
		}
		key := c.keys.Topic(name)
		txn := Txn{If: []Compare{IfMod(key, t.Revision)}, Then: []Op{PutOp(key, encodeTopic(t))}}
		if t.OnDisk() != before.OnDisk() {
			// A link in the chain of assignments: one that was planned for an object topic must not move a disk topic's partitions.
			placement, _, err := c.kv.Get(ctx, c.keys.Placement())
			if err != nil {
				return !retryable(err), err
			}
			compare := IfAbsent(c.keys.Placement())
			if placement != nil {
				compare = IfMod(placement.Key, placement.Mod)
			}
			txn.If, txn.Then = append(txn.If, compare), append(txn.Then, nextPlacement(c.keys, placement))
		}
		result, err := c.kv.Txn(ctx, txn)
		if err != nil || !result.Succeeded {
			return false, err
		}
		t.Revision = result.Revision
		topic = t
		return true, nil
	})
	return topic, err
}

// AlterTopic changes settings; those that are not named stay. A topic whose durability is disk no more stays Held until
// ConfirmDurability: what its leaders had acknowledged may still stand on their disks alone.
func (c *Client) AlterTopic(ctx context.Context, name string, settings map[string]string) (Topic, error) {
	return c.changeTopic(ctx, name, func(t *Topic) (bool, error) {
		next, err := t.Config.With(settings)
		if err != nil {
			return false, err
		}
		write := next != t.Config
		if t.Config.Durability == DurabilityDisk && next.Durability == DurabilityObject {
			t.Held = true
		}
		t.Config = next
		return write, nil
	})
}

// ConfirmDurability ends that a topic is Held: every leader has seen that its durability is object and has flushed since. A topic
// that was changed after the one given stays as it is.
func (c *Client) ConfirmDurability(ctx context.Context, t Topic) (Topic, error) {
	return c.changeTopic(ctx, t.Name, func(now *Topic) (bool, error) {
		if !now.Held || now.ID != t.ID || now.Revision != t.Revision || now.Config.Durability != DurabilityObject {
			return false, nil
		}
		now.Held = false
		return true, nil
	})
}

// AddPartitions raises the number of partitions to total. It never goes down, and an equal number is an error unless an
// earlier attempt of the same call may have made it so.
func (c *Client) AddPartitions(ctx context.Context, name string, total int32) (Topic, error) {
	if err := ValidatePartitions(total); err != nil {
		return Topic{}, err
	}
	tried := false
	return c.changeTopic(ctx, name, func(t *Topic) (bool, error) {
		if t.Partitions >= total && tried { // by an earlier copy of ours, or by somebody who asked for as many
			return false, nil
		}
		if t.Partitions >= total {
			return false, fmt.Errorf("%w: topic %s has %d partitions already; the number only goes up", ErrInvalidTopic, name, t.Partitions)
		}
		tried = true
		t.Partitions = total
		return true, nil
	})
}

// DeleteTopic removes a topic and takes its partitions from whoever leads them, in one transaction of the placement chain,
// and returns a revision at which that holds. From then on no commit can add to it. Its columns go with it.
func (c *Client) DeleteTopic(ctx context.Context, name string) (Revision, error) {
	var at Revision
	var id TopicID
	tried := false
	err := c.retry(ctx, "delete topic "+name, func() (bool, error) {
		state, err := c.readPlacement(ctx)
		if err != nil {
			return !retryable(err), err
		}
		var topic *Topic
		for i := range state.topics {
			if state.topics[i].Name == name && (!tried || state.topics[i].ID == id) {
				topic = &state.topics[i]
			}
		}
		if topic == nil {
			if tried { // an earlier copy of ours
				at = state.revision
				return true, nil
			}
			if err := ValidateTopicName(name); err != nil {
				return true, err
			}
			return true, fmt.Errorf("%w: %q", ErrUnknownTopic, name)
		}
		id, tried = topic.ID, true
		result, err := c.kv.Txn(ctx, planDelete(c.keys, state, *topic))
		if err != nil || !result.Succeeded {
			return false, err
		}
		at = result.Revision
		return true, nil
	})
	return at, err
}

// planDelete builds the transaction that deletes a topic. Pure.
func planDelete(k Keys, s placementState, t Topic) Txn {
	placement := Compare{Key: k.Placement()}
	if s.placement != nil {
		placement.Mod = s.placement.Mod
	}
	txn := Txn{
		If: []Compare{placement, IfMod(k.Topic(t.Name), t.Revision)},
		Then: []Op{
			DeleteOp(k.Topic(t.Name)),
			DeleteOp(k.Schema(t.ID)),
			PutOp(k.Deleted(t.ID), encodeJSON(deletedValue{Version: valueVersion, Name: t.Name, Partitions: t.Partitions})),
			nextPlacement(k, s.placement),
		},
	}
	for _, node := range slices.Sorted(maps.Keys(s.assigned)) {
		a := s.assigned[node]
		kept := make(map[Partition]Epoch, len(a.Epochs))
		for p, e := range a.Epochs {
			if p.Topic != t.ID {
				kept[p] = e
			}
		}
		if len(kept) != len(a.Epochs) {
			txn.Then = append(txn.Then, PutOp(k.Assign(node), encodeAssignment(a.Disk, kept)))
		}
	}
	return txn
}

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/client"
)

// leavePatience bounds what a member of a group takes to commit and to leave.
const leavePatience = 10 * time.Second

// groupMember is a member of a group of package client, on a connection of its own.
type groupMember struct {
	app    *app
	client *client.Client
	member *client.GroupConsumer
	// read is the piece of the last poll, up to where it was handed over; done is what was printed of those.
	read, done client.Position
}

func (a *app) openMember(c *client.Client, o consumerOptions) (consumer, error) {
	m := &groupMember{app: a, client: c}
	host, err := os.Hostname()
	if err != nil {
		host = "tidemark"
	}
	m.member, err = c.NewGroupConsumer(o.group, []string{o.topic}, client.GroupConfig{
		InstanceID: o.instance, ClientID: "consume@" + host, Strategy: o.strategy, FromEnd: o.end, AutoCommit: o.commitEvery,
		OnAssign: m.tell("gets"), OnRevoke: m.tell("gives up"), OnLost: m.tell("has lost"),
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return m, nil
}

// tell makes a callback that says on a terminal which partitions come and go.
func (m *groupMember) tell(verb string) func(map[string][]int32) {
	if !m.app.stderrTTY {
		return nil
	}
	return func(of map[string][]int32) {
		var texts []string
		for _, topic := range sortedKeys(of) {
			texts = append(texts, topic+" "+partitionList(of[topic]))
		}
		m.app.tellf("this member %s %s\n", verb, strings.Join(texts, ", "))
	}
}

// poll hands over the next piece. That it is called tells that everything before was printed.
func (m *groupMember) poll(ctx context.Context, each func(m *message) error) error {
	m.read = client.Position{}
	batches, err := m.member.Poll(ctx)
	if err != nil {
		return err // what passes within the session's timeout, a member waits out by itself
	}
	err = eachMessage(batches, func(msg *message) error {
		m.read = client.Position{Topic: msg.topic, Offsets: map[int32]int64{msg.partition: msg.offset + 1}}
		return each(msg)
	})
	if err == nil {
		m.read = batches.Position()
	}
	return err
}

func (m *groupMember) printed() { m.done = m.read }

// close commits what was printed and leaves the group.
func (m *groupMember) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), leavePatience)
	defer cancel()
	var err error
	if len(m.done.Offsets) > 0 {
		err = m.member.Commit(ctx, m.done)
	}
	if closeErr := m.member.Close(ctx); err == nil {
		err = closeErr
	}
	m.client.Close()
	if err != nil {
		return fmt.Errorf("commit what was printed: %w", err)
	}
	return nil
}

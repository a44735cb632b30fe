package ingest

// queue is a first-in first-out list that gives its memory back as it drains. The zero value is empty and ready.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int { return len(q.items) - q.head }

func (q *queue[T]) push(v T) { q.items = append(q.items, v) }

// peek returns the oldest item; only on a queue that is not empty.
func (q *queue[T]) peek() *T { return &q.items[q.head] }

func (q *queue[T]) pop() T {
	v := q.items[q.head]
	var zero T
	q.items[q.head] = zero // or the array would keep what was popped alive
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 4096 {
			q.items = nil
		}
	case q.head > 1024 && q.head*2 > len(q.items):
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return v
}

// live is the queue's content, oldest first; valid until the next push or pop.
func (q *queue[T]) live() []T { return q.items[q.head:] }

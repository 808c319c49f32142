package outbox

import (
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// queue is the runs that wait for one lane.
type queue struct {
	outbox *Outbox
	stream lane.StreamName
	id     lane.ID
	room   *semaphore.Weighted
	refs   int // reservations and waiters; under Outbox.mu
	wake   chan struct{}

	mu      sync.Mutex // protects what follows
	runs    []*Run
	first   int // runs[:first] were taken
	working bool
}

func newQueue(o *Outbox, stream lane.StreamName, id lane.ID) *queue {
	return &queue{outbox: o, stream: stream, id: id, room: semaphore.NewWeighted(o.cfg.LaneBytes), wake: make(chan struct{}, 1)}
}

// push appends a run and sees that a worker runs.
func (q *queue) push(r *Run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first > 0 && len(q.runs) == cap(q.runs) { // make room at the end before growing
		n := copy(q.runs, q.runs[q.first:])
		clear(q.runs[n:])
		q.runs, q.first = q.runs[:n], 0
	}
	q.runs = append(q.runs, r)
	if !q.working {
		q.working = true
		q.outbox.workers.Go(func() { newWorker(q).work() }) // ends when the lane has nothing to send; Close waits for it
		return
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// peek gives the first run, nil when there is none.
func (q *queue) peek() *Run {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == len(q.runs) {
		return nil
	}
	return q.runs[q.first]
}

// pop drops the run that peek gave.
func (q *queue) pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.runs[q.first] = nil
	if q.first++; q.first == len(q.runs) {
		q.runs, q.first = q.runs[:0], 0
	}
}

// rest lets the worker end unless a run came meanwhile.
func (q *queue) rest() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first < len(q.runs) {
		return false
	}
	q.working = false
	return true
}

// release gives back what a run had reserved.
func (q *queue) release(r *Run) {
	q.room.Release(r.reserved)
	q.outbox.total.Release(r.reserved)
	q.outbox.watch.Reserved(q.outbox.reserved.Add(-r.reserved))
	q.outbox.drop(q)
}

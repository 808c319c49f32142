// Package herald tells followers that lanes moved. It coalesces: what happens to a lane while a notification is on its way becomes
// one notification.
//
// Invariants:
//
//	I1  only what is published is told, and telling never waits for anybody.
//	I2  a batch rides along only when it is the one thing new since the last notification of its lane.
package herald

import (
	"context"
	"sync"

	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
)

// MaxInlineBytes is the largest batch that rides along.
const MaxInlineBytes = 32 << 10

// Herald gathers news and sends it. Safe for concurrent use.
type Herald struct {
	send func(*notifyv1.Notification)

	mu   sync.Mutex // protects news
	news map[*ledger.Lane]*item
	wake chan struct{}
}

type item struct {
	batches int
	batch   []byte // the only new one, when it is small
	deleted bool
}

// New makes a Herald; send must not block, and its errors are its own: notifications are hints.
func New(send func(*notifyv1.Notification)) *Herald {
	return &Herald{send: send, news: map[*ledger.Lane]*item{}, wake: make(chan struct{}, 1)}
}

// Published says that batch is the new end of l. The bytes must not change any more.
func (h *Herald) Published(l *ledger.Lane, batch []byte) {
	h.note(l, func(n *item) {
		n.batches++
		n.batch = nil
		if n.batches == 1 && len(batch) <= MaxInlineBytes {
			n.batch = batch
		}
	})
}

// Digested says that a newer digest of l is known.
func (h *Herald) Digested(l *ledger.Lane) { h.note(l, func(*item) {}) }

// Deleted says that l's stream was deleted.
func (h *Herald) Deleted(l *ledger.Lane) { h.note(l, func(n *item) { n.deleted = true }) }

func (h *Herald) note(l *ledger.Lane, change func(*item)) {
	h.mu.Lock()
	n := h.news[l]
	if n == nil {
		n = &item{}
		h.news[l] = n
	}
	change(n)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends.
func (h *Herald) Run(ctx context.Context) error {
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			return nil
		}
		h.mu.Lock()
		news := h.news
		h.news = make(map[*ledger.Lane]*item, len(news))
		h.mu.Unlock()
		for l, n := range news {
			s := l.Standing()
			m := &notifyv1.Notification{
				Stream: string(l.Stream), StreamId: uint64(l.ID.Stream), Partition: uint32(l.ID.Partition), Epoch: uint64(l.Epoch),
				Head: uint64(s.Head), Tail: uint64(s.Tail), TailTimeMs: s.TailMS, Digest: Mark(l, s.Mark), Batch: n.batch, Deleted: n.deleted,
			}
			h.send(m)
		}
	}
}

// Mark is the message form of a digest; nil for nil.
func Mark(l *ledger.Lane, m *ledger.Mark) *streamv1.DigestMark {
	if m == nil {
		return nil
	}
	return &streamv1.DigestMark{Epoch: uint64(l.Epoch), Sequence: uint64(m.Sequence), Sum: m.Set.Sum.Append(nil), Count: m.Set.Count}
}

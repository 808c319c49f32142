package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/sdk/internal/spool"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// receive fetches what the spools miss, and meanwhile writes the rows of all partitions to the build, rising by key. It answers how much
// that was.
func (r *Replica) receive(ctx context.Context, k *link, spools []*spool.Spool, build *store.Build) (Progress, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel(nil) // before Wait: it is what stops the workers
	fail := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	workers.Go(func() { fail(k.fetch(ctx, spools)) })
	m := &merge{r: r, k: k, spools: spools, build: build, tick: time.NewTicker(progressEvery), reported: time.Now()}
	defer m.tick.Stop()
	for _, s := range spools {
		run := &laneRows{spool: s, chunks: make(chan []byte), free: make(chan []byte, 1)}
		m.waiting = append(m.waiting, run)
		workers.Go(func() { fail(run.unpack(ctx)) })
	}
	err := m.run(ctx)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, fault.Malformed): // in chunks that have their hashes: the snapshot was made like that
		err = fmt.Errorf("%w: %w", store.ErrUnproven, err)
	}
	return m.progress(), err
}

// laneRows is one partition's rows, chunk after chunk.
type laneRows struct {
	spool  *spool.Spool
	chunks chan []byte // unpacked, in order, closed behind the last
	free   chan []byte // memory to be used again

	// Owned by the merge.
	raw    []byte
	rows   state.Reader
	number int // of the next chunk
	count  uint32
	row    record.Record // aliases raw
}

// unpack brings the chunks in order, one ahead of the merge (I7).
func (l *laneRows) unpack(ctx context.Context) error {
	defer close(l.chunks)
	for n := range l.spool.Manifest.Rows {
		var scratch []byte
		select {
		case scratch = <-l.free:
		default:
		}
		raw, err := l.spool.Take(ctx, n, scratch)
		if err != nil {
			return err
		}
		select {
		case l.chunks <- raw:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// merge writes the rows of all partitions in order of their keys: lanes is a heap by the key of the next row of each.
type merge struct {
	r        *Replica
	k        *link
	spools   []*spool.Spool
	build    *store.Build
	waiting  []*laneRows
	lanes    []*laneRows
	done     uint64
	tick     *time.Ticker
	told     time.Time
	reported time.Time
}

func (m *merge) run(ctx context.Context) error {
	for _, l := range m.waiting {
		more, err := m.next(ctx, l)
		if err != nil {
			return err
		}
		if more {
			m.lanes = append(m.lanes, l)
		}
	}
	for i := len(m.lanes)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	for len(m.lanes) > 0 {
		l := m.lanes[0]
		if err := m.build.Add(&l.row); err != nil {
			return err
		}
		m.done++
		more, err := m.next(ctx, l)
		if err != nil {
			return err
		}
		if !more {
			last := len(m.lanes) - 1
			m.lanes[0], m.lanes = m.lanes[last], m.lanes[:last]
		}
		m.down(0)
	}
	return nil
}

// next reads the next row of a lane, out of its next chunk when one is over; false at the end.
func (m *merge) next(ctx context.Context, l *laneRows) (bool, error) {
	for !l.rows.Next(&l.row) {
		if l.number > 0 {
			if err := counted(l.count, l.spool.Manifest.Rows[l.number-1].Count, l.rows.Err()); err != nil {
				return false, err
			}
		}
		raw, err := m.chunk(ctx, l)
		if err != nil || raw == nil {
			return false, err
		}
		select {
		case l.free <- l.raw:
		default:
		}
		l.raw, l.rows, l.count = raw, state.NewReader(raw), 0
		l.number++
	}
	l.count++
	return true, nil
}

// chunk waits for the next chunk of a lane, and tells meanwhile how far the bootstrap is; nil behind the last.
func (m *merge) chunk(ctx context.Context, l *laneRows) ([]byte, error) {
	m.tell(ctx)
	for {
		select {
		case raw, more := <-l.chunks:
			if !more && l.number < len(l.spool.Manifest.Rows) { // unpack gave up
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return raw, nil
		case <-m.tick.C:
			m.tell(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// down puts lane i where its key belongs, among those below it.
func (m *merge) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(m.lanes); child++ {
			if bytes.Compare(m.lanes[child].row.Key, m.lanes[least].row.Key) < 0 {
				least = child
			}
		}
		if least == i {
			return
		}
		m.lanes[i], m.lanes[least] = m.lanes[least], m.lanes[i]
		i = least
	}
}

func (m *merge) progress() Progress {
	p := Progress{Phase: Receiving, Done: m.done}
	for _, s := range m.spools {
		p.Expected += s.Manifest.Set.Count
		p.DoneBytes += s.Bytes()
		p.ExpectedBytes += s.Manifest.RowBytes()
	}
	return p
}

// tell reports to the application about ten times a second, and to the provider as always.
func (m *merge) tell(ctx context.Context) {
	now := time.Now()
	if now.Sub(m.told) < progressEvery {
		return
	}
	m.told = now
	m.r.progress(m.progress())
	if now.Sub(m.reported) >= reportEvery {
		m.reported = now
		m.k.report(ctx)
	}
}

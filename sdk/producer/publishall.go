package producer

import (
	"context"
	"iter"
)

// Outcome is what became of one record: Ack, or Err and nothing stored, as far as is known.
type Outcome struct {
	Record Record
	Ack    Ack
	Err    error
}

// hearing is where the outcomes of one PublishAll go.
type hearing struct {
	ctx   context.Context // ends with the loop
	known chan []Outcome
}

// tell waits for the loop, so that a slow one slows the producer.
func (h *hearing) tell(outcomes []Outcome) {
	select {
	case h.known <- outcomes:
	case <-h.ctx.Done():
	}
}

// PublishAll publishes records and yields what became of them as soon as it is known, as many at a time as are: in the order of records,
// but for those that had to be sent again. Each record has one outcome, which may be the fault of a record that breaks a rule; the loop
// ends when records has and every outcome was yielded. The slice is the caller's.
//
// An error is yielded with outcomes of nothing, and last: ctx's, or why the producer takes no more. Records handed over before it, or
// before the loop was left, are still on their way: Close waits for them.
//
// records runs on a goroutine of its own, which ends with it, or at the first record it yields after the loop has ended.
func (p *Producer) PublishAll(ctx context.Context, records iter.Seq[Record]) iter.Seq2[[]Outcome, error] {
	return func(yield func([]Outcome, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // frees those who tell and the feed
		hear := &hearing{ctx, make(chan []Outcome, 1)}
		type end struct {
			taken int
			err   error
		}
		ended := make(chan end, 1)
		go func() { // ends as said above
			var e end
			for r := range records {
				if e.err = ctx.Err(); e.err != nil {
					break
				}
				it, err := r.item()
				if err != nil {
					hear.tell([]Outcome{{Record: r, Err: err}})
				} else {
					it.of, it.hear = &r, hear
					if e.err = p.take(ctx, it); e.err != nil {
						break
					}
				}
				e.taken++
			}
			ended <- e
		}()
		yielded, total := 0, (end{taken: -1}) // not known yet
		for yielded != total.taken {
			select {
			case outcomes := <-hear.known:
				yielded += len(outcomes)
				if !yield(outcomes, nil) {
					return
				}
			case total = <-ended:
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
			if total.err != nil && yielded == total.taken {
				yield(nil, total.err)
				return
			}
		}
	}
}

package outbox

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// worker sends one lane's runs. One goroutine; an append runs in a second one, whose end the worker awaits.
type worker struct {
	q      *queue
	outbox *Outbox
	// next gathers; flying is at the sequencer, nil when none is; spare is an empty draft kept for the next flight.
	next, flying, spare *draft
	// again are parts that were refused together with others, to be sent before next: group by group, in order (I1).
	again   [][]part
	answers chan answer
}

type answer struct {
	response *sequencerv1.AppendResponse
	err      error
}

func newWorker(q *queue) *worker {
	return &worker{q: q, outbox: q.outbox, next: q.outbox.drafts.Get().(*draft), answers: make(chan answer, 1)}
}

func (w *worker) work() {
	for {
		full := w.gather()
		if w.flying == nil {
			switch {
			case w.launchAgain():
			case !w.next.empty():
				d := w.next
				w.next = w.blank()
				w.launch(d)
			case w.q.rest():
				w.outbox.drafts.Put(w.next)
				if w.spare != nil {
					w.outbox.drafts.Put(w.spare)
				}
				return
			}
			continue
		}
		wake := w.q.wake
		if full {
			w.next.batch(w.q.id) // compress while the sequencer is busy
			wake = nil
		}
		select {
		case <-wake:
		case a := <-w.answers:
			w.land(a)
		}
	}
}

// gather moves runs from the queue into the next draft, and reports whether that is full.
func (w *worker) gather() (full bool) {
	if w.next.built != nil {
		return true
	}
	for {
		r := w.q.peek()
		if r == nil {
			return false
		}
		if why := w.hopeless(r); why != nil {
			w.q.pop()
			r.settle(r.rest(), Fate{Err: why})
			continue
		}
		if !w.next.take(r, &w.outbox.cfg) {
			return true
		}
		w.q.pop()
	}
}

// hopeless says why a run must not be sent, nil when it may be.
func (w *worker) hopeless(r *Run) error {
	if w.outbox.ctx.Err() != nil {
		return errStopping()
	}
	if r.Session.Broken() { // I4
		return fault.New(fault.Unavailable, "not sent, because an earlier record of the same call failed; send it again behind that one")
	}
	return nil
}

// blank gives an empty draft.
func (w *worker) blank() *draft {
	if d := w.spare; d != nil {
		w.spare = nil
		return d
	}
	return w.outbox.drafts.Get().(*draft)
}

// launchAgain sends the first group of again that has something to send; false when there is none.
func (w *worker) launchAgain() bool {
	for len(w.again) > 0 {
		group := w.again[0]
		w.again[0] = nil
		w.again = w.again[1:]
		d := w.blank()
		for _, p := range group {
			if why := w.hopeless(p.run); why != nil {
				p.run.settle(p.spans, Fate{Err: why})
				continue
			}
			d.add(p)
		}
		if !d.empty() {
			w.launch(d)
			return true
		}
		w.spare = d
	}
	return false
}

// launch sends d.
func (w *worker) launch(d *draft) {
	w.flying = d
	request := &sequencerv1.AppendRequest{
		Stream: string(w.q.stream), StreamId: uint64(w.q.id.Stream), Partition: uint32(w.q.id.Partition),
		Batch: d.batch(w.q.id), Runs: d.runs(),
	}
	w.outbox.watch.Sent(int(d.builder.Count()), d.builder.Size(), len(request.Batch))
	go func() { // ends with the append, which has a deadline; the worker waits for it
		response, err := w.outbox.append(request)
		w.answers <- answer{response, err}
	}()
}

// append hands the batch over, again while the answer is Overloaded: then nothing was written, and callers wait behind the lane's bound.
func (o *Outbox) append(request *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
	started := time.Now()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		ctx, cancel := context.WithTimeout(o.ctx, o.cfg.AppendTimeout)
		response, err := o.appender.Append(ctx, request)
		cancel()
		wait := pause/2 + rand.N(pause)
		if !errors.Is(err, fault.Overloaded) || time.Since(started)+wait > o.cfg.RetryFor {
			o.watch.Answered(time.Since(started), fault.ReasonOf(err))
			return response, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-o.ctx.Done():
			timer.Stop()
			return nil, errStopping()
		}
	}
}

// land settles what the answer says, and sends what it left over (I1).
func (w *worker) land(a answer) {
	d := w.flying
	w.flying = nil
	switch {
	case a.err != nil && len(d.parts) > 1 && divisible(a.err):
		w.divide(d)
	case a.err != nil:
		w.fail(d, a.err)
	case len(a.response.GetRefusals()) > 0:
		w.refused(d, a.response.GetRefusals())
	case a.response.GetFirstSequence() == 0:
		w.fail(d, fault.New(fault.UnknownOutcome, "the sequencer's answer names no sequence"))
	default:
		sequence := lane.Sequence(a.response.GetFirstSequence())
		for _, p := range d.parts {
			p.run.settle(p.spans, Fate{Epoch: lane.Epoch(a.response.GetEpoch()), Sequence: sequence})
			sequence += lane.Sequence(countOf(p.spans))
		}
	}
	d.reset()
	w.spare = d
}

// fail gives every record of d the same fault.
func (w *worker) fail(d *draft, err error) {
	for _, p := range d.parts {
		if fault.ReasonOf(err).Temporary() {
			p.run.Session.Break()
		}
		p.run.settle(p.spans, Fate{Err: err})
	}
	w.sift()
}

// sift takes out of the next draft what a broken session has in it.
func (w *worker) sift() {
	d := w.next
	broken := false
	for _, p := range d.parts {
		broken = broken || p.run.Session.Broken()
	}
	if !broken {
		return
	}
	parts := append([]part(nil), d.parts...)
	d.reset()
	for _, p := range parts {
		if why := w.hopeless(p.run); why != nil {
			p.run.settle(p.spans, Fate{Err: why})
			continue
		}
		d.add(p)
	}
}

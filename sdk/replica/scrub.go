package replica

import (
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const (
	// scrubEvery is the time between two slices of a scrub.
	scrubEvery = 250 * time.Millisecond
	// scrubRest is the time between two rounds over all rows.
	scrubRest = 10 * time.Second
)

// scrub reads all rows again and again, slice by slice between the transactions of the writer, whose goroutine it belongs to. It holds
// no read transaction meanwhile, which would keep the journal growing: rows that are written behind it are taken along, so that at the
// end of a round what was read must add up to the digest of the lane, whatever was written during it.
//
//	key:   a ─────── read ──────▶ at ─────── not yet ───────▶ z       sets = rows up to at, as they are now
type scrub struct {
	running bool
	at      string // the last key that was read
	sets    []digest.Set
	rested  time.Time // when the next round may begin
}

// stop ends a round without a result: rows were written that it was not told of.
func (s *scrub) stop() { s.running = false }

// wrote is told of every row that was written: what it was, if it was there, and what it is, if it still is.
func (s *scrub) wrote(key string, p lane.Partition, was, is *digest.Element) {
	if !s.running || key > s.at {
		return
	}
	if was != nil {
		s.sets[p].Remove(*was)
	}
	if is != nil {
		s.sets[p].Add(*is)
	}
}

// scrubSome reads one slice, and compares at the end of a round. What does not agree is repaired.
func (r *Replica) scrubSome() error {
	s := &r.scrub
	if r.cfg.ScrubRowsPerSecond < 0 || r.Status().Phase != Live || !s.running && time.Now().Before(s.rested) {
		return nil
	}
	if !s.running {
		*s = scrub{running: true, sets: make([]digest.Set, len(r.lanes))}
	}
	rows := max(1, r.cfg.ScrubRowsPerSecond*int(scrubEvery/time.Millisecond)/1000)
	slice, err := r.gen.Slice(s.at, rows, func(key []byte, e digest.Element) {
		s.sets[lane.Of(key, r.meta.Partitions)].Add(e)
	})
	if err != nil {
		s.stop()
		return needResync(0, RungBootstrap, "the rows cannot be read again: %v", err)
	}
	if slice.More && !slice.Odd {
		s.at = slice.Last
		return nil
	}
	s.running, s.rested = false, time.Now().Add(scrubRest)
	for _, l := range r.lanes {
		if s.sets[l.Partition] != l.Set || slice.Odd {
			r.update(func(st *Status) { st.Mismatched++ })
			r.changedRows(l, s.sets[l.Partition])
			return needResync(l.Partition, RungRepair, "%s", r.need.why)
		}
	}
	r.update(func(st *Status) { st.Scrubbed++ })
	return nil
}

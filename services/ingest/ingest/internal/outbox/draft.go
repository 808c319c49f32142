package outbox

import (
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// recordOverheadBytes is more than flags, time and lengths of one encoded record take.
const recordOverheadBytes = 32

// draft is the batch that gathers: records encoded, and whose they are.
type draft struct {
	builder batch.Builder
	parts   []part
	// built is the finished batch, made ahead when the draft is full; nil otherwise.
	built []byte
}

// part is the records of one run in one draft.
type part struct {
	run   *Run
	spans []Span
}

func (d *draft) reset() {
	d.builder.Reset()
	clear(d.parts)
	d.parts = d.parts[:0]
	d.built = nil
}

func (d *draft) empty() bool { return d.builder.Count() == 0 }

// room reports whether r may be added: always to an empty draft.
func (d *draft) room(r *record.Record, cfg *Config) bool {
	if d.empty() {
		return true
	}
	size := d.builder.Size() + len(r.Key) + len(r.Headers) + len(r.Value) + recordOverheadBytes
	return size <= cfg.BatchBytes && int(d.builder.Count()) < cfg.BatchRecords
}

// take adds as much of r as there is room for, and reports whether that was all of it.
func (d *draft) take(r *Run, cfg *Config) bool {
	fromSpan, fromRecord := r.sentSpans, r.sentRecords
	whole := true
adding:
	for ; int(r.sentSpans) < len(r.Spans); r.sentSpans, r.sentRecords = r.sentSpans+1, 0 {
		span := r.Spans[r.sentSpans]
		for ; r.sentRecords < span.Count; r.sentRecords++ {
			rec := &r.Records[span.First+r.sentRecords]
			if !d.room(rec, cfg) {
				whole = false
				break adding
			}
			d.builder.Add(rec)
		}
	}
	if spans := cut(r.Spans, fromSpan, fromRecord, r.sentSpans, r.sentRecords); len(spans) > 0 {
		d.parts = append(d.parts, part{r, spans})
	}
	return whole
}

// add encodes records that were in a draft before.
func (d *draft) add(p part) {
	for _, span := range p.spans {
		for i := span.First; i < span.First+span.Count; i++ {
			d.builder.Add(&p.run.Records[i])
		}
	}
	d.parts = append(d.parts, p)
}

// batch gives the finished batch.
func (d *draft) batch(id lane.ID) []byte {
	if d.built == nil {
		d.built = d.builder.Build(id)
	}
	return d.built
}

// runs names the producers, part by part.
func (d *draft) runs() []*sequencerv1.ProducerRun {
	made := make([]sequencerv1.ProducerRun, len(d.parts))
	runs := make([]*sequencerv1.ProducerRun, len(d.parts))
	for i, p := range d.parts {
		run := &made[i]
		runs[i] = run
		run.Count = countOf(p.spans)
		if p.run.Producer.ID == "" {
			continue
		}
		run.ProducerId, run.ProducerEpoch = p.run.Producer.ID, p.run.Producer.Epoch
		run.SequenceRuns = make([]uint64, 0, 2*len(p.spans))
		for _, span := range p.spans {
			run.SequenceRuns = append(run.SequenceRuns, p.run.Producer.First+uint64(span.First), uint64(span.Count))
		}
	}
	return runs
}

// cut gives the records of spans from (span, record) to (span, record), exclusive; it allocates only when a span is cut through.
func cut(spans []Span, fromSpan, fromRecord, toSpan, toRecord uint32) []Span {
	if fromRecord == 0 && toRecord == 0 {
		return spans[fromSpan:toSpan]
	}
	end := toSpan
	if toRecord > 0 {
		end++
	}
	out := append([]Span(nil), spans[fromSpan:end]...)
	if toRecord > 0 {
		out[len(out)-1].Count = toRecord
	}
	out[0].First += fromRecord
	out[0].Count -= fromRecord
	if out[0].Count == 0 {
		out = out[1:]
	}
	return out
}

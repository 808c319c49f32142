package sequencer

import (
	"errors"
	"strconv"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// errBound ends a read at its byte bound.
var errBound = errors.New("the byte bound of the read")

// maxDraftRecords bounds the records of one batch: what the materialiser applies without giving others a turn.
const maxDraftRecords = 16384

// bodies are buffers for decompressing drafts to look at them.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// checkDraft reads a draft whole: checksum, compression, every record, and a key in each when the stream is keyed.
func checkDraft(h *batch.Header, b []byte, keyed bool) error {
	if h.Count > maxDraftRecords {
		return fault.New(fault.InvalidArgument, "the batch has %d records; at most %d are taken at once", h.Count, maxDraftRecords)
	}
	scratch := bodies.Get().(*[]byte)
	defer bodies.Put(scratch)
	if cap(*scratch) < int(h.RawBytes) {
		*scratch = make([]byte, h.RawBytes)
	}
	body, err := batch.Body(h, b, *scratch)
	if err != nil {
		return fault.New(fault.Malformed, "the batch was damaged on its way; nothing was written: %w", err)
	}
	r := record.NewReader(body, 1)
	var rec record.Record
	var seen uint32
	for r.Next(&rec) {
		if seen++; keyed && len(rec.Key) == 0 {
			return fault.New(fault.KeyMissing, "record %d of the batch has no key, and the stream is keyed", seen)
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	if seen != h.Count {
		return fault.New(fault.Malformed, "the batch declares %d records and holds %d", h.Count, seen)
	}
	return nil
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

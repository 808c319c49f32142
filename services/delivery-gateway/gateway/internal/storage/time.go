package storage

import (
	"context"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
)

// Reader reads ranges of a log; *Client is one.
type Reader interface {
	Read(ctx context.Context, r Range, visit func(*parcel.Parcel) error) error
}

// FirstAt gives the first retained sequence of a lane whose record is of timeMS or later, the one behind the tail when there is none.
// It looks at some 20 batches of a million, by halves; where record times do not rise it gives one such record, not surely the first.
func FirstAt(ctx context.Context, r Reader, at Standing, timeMS int64) (lane.Sequence, error) {
	from, to := at.Head, at.Tail+1
	for from < to {
		middle := from + (to-from)/2
		var data []byte
		err := r.Read(ctx, Range{Stream: at.Stream, Lane: at.Lane, Epoch: at.Epoch, From: middle, Until: middle + 1, MaxBytes: 1, Head: at.Head}, func(p *parcel.Parcel) error {
			data = p.Data
			return nil
		})
		if err != nil {
			return 0, err
		}
		h, err := batch.ParseHeader(data)
		if err != nil {
			return 0, err
		}
		switch {
		case h.LastMS < timeMS:
			from = max(h.Next(), middle+1)
		case h.FirstMS >= timeMS:
			to = min(max(h.Base, from), middle)
		default:
			return firstWithin(&h, data, max(h.Base, from), timeMS)
		}
	}
	return from, nil
}

// firstWithin looks record by record, from a sequence on.
func firstWithin(h *batch.Header, data []byte, from lane.Sequence, timeMS int64) (lane.Sequence, error) {
	first := h.Next()
	err := batch.Walk(data, nil, func(r *record.Record) error {
		if r.Sequence >= from && r.TimeMS >= timeMS {
			first = min(first, r.Sequence)
		}
		return nil
	})
	return first, err
}

package snapshot

import (
	"context"
	"strconv"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
)

// Artefact is a snapshot at hand: its manifest, and a way to read its chunks. Safe for concurrent use if Stored is.
type Artefact struct {
	*Manifest
	// Stored reads chunk number n of all as it is stored, into scratch when that has room. What it gives is checked against the manifest.
	Stored func(n int, scratch []byte) ([]byte, error)
}

// Packet is a piece of rows or tombstones packed to be sent: what Changes and Pick give out.
type Packet struct {
	Tombstones bool
	Count      uint32
	RawBytes   uint32
	Packed     []byte // the callee's to keep
}

// eachRow visits the rows of the chunks that keep says, rising by key. The record aliases memory that is used again.
func (a *Artefact) eachRow(ctx context.Context, keep func(*Chunk) bool, visit func(*record.Record) error) error {
	return a.each(ctx, 0, len(a.Rows), keep, func(raw []byte) error {
		r := state.NewReader(raw)
		var rec record.Record
		for r.Next(&rec) {
			if err := visit(&rec); err != nil {
				return err
			}
		}
		return r.Err()
	})
}

func (a *Artefact) each(ctx context.Context, from, to int, keep func(*Chunk) bool, visit func(raw []byte) error) error {
	var stored, raw []byte
	for n := from; n < to; n++ {
		c := a.Chunk(n)
		if keep != nil && !keep(c) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if stored, err = a.Stored(n, stored); err != nil {
			return err
		}
		if raw, err = c.Open(stored, raw); err != nil {
			return err
		}
		if err := visit(raw); err != nil {
			return err
		}
	}
	return nil
}

// IDs gives the element IDs of all rows, in order of their keys: 8 bytes a row. It also proves the rows: Fault Corrupt when they do not
// have the manifest's digest.
func (a *Artefact) IDs(ctx context.Context) ([]sketch.ID, error) {
	ids := make([]sketch.ID, 0, a.Set.Count)
	h := digest.NewHasher(a.Seed)
	var set digest.Set
	err := a.eachRow(ctx, nil, func(r *record.Record) error {
		e := h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)
		set.Add(e)
		ids = append(ids, sketch.IDOf(e))
		return nil
	})
	if err == nil && set != a.Set {
		err = fault.New(fault.Corrupt, "the rows of the snapshot at %v have digest %v, and its manifest says %v", a.At, set, a.Set)
	}
	return ids, err
}

// Changes packs the rows and the tombstones that are newer than since, rows first, and hands them to send in packets of about a chunk.
// Fault: Expired when deletions since then may have been forgotten (I3), with details from and head.
func (a *Artefact) Changes(ctx context.Context, since lane.Sequence, send func(Packet) error) error {
	if since < a.Floor {
		return fault.New(fault.Expired, "what was deleted is known since sequence %d only, and it was asked since %d: repair or bootstrap instead", a.Floor, since).
			With("from", strconv.FormatUint(uint64(since)+1, 10)).With("head", strconv.FormatUint(uint64(a.Floor)+1, 10))
	}
	newer := func(c *Chunk) bool { return c.Newest > since }
	p := packer{send: send}
	err := a.eachRow(ctx, newer, func(r *record.Record) error {
		if r.Sequence <= since {
			return nil
		}
		return p.add(state.AppendRow(p.raw, r))
	})
	if err == nil {
		err = p.flush()
	}
	if err != nil {
		return err
	}
	p.tombstones = true
	err = a.each(ctx, len(a.Rows), a.Chunks(), newer, func(raw []byte) error {
		r := state.NewTombstoneReader(raw)
		var t state.Tombstone
		for r.Next(&t) {
			if t.Sequence > since {
				if err := p.add(state.AppendTombstone(p.raw, t)); err != nil {
					return err
				}
			}
		}
		return r.Err()
	})
	if err == nil {
		err = p.flush()
	}
	return err
}

// Pick packs the rows whose element IDs are wanted and hands them to send in packets of about a chunk, rising by key.
func (a *Artefact) Pick(ctx context.Context, wanted map[sketch.ID]struct{}, send func(Packet) error) error {
	h := digest.NewHasher(a.Seed)
	p := packer{send: send}
	left := len(wanted)
	err := a.eachRow(ctx, func(*Chunk) bool { return left > 0 }, func(r *record.Record) error {
		if _, ok := wanted[sketch.IDOf(h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value))]; !ok {
			return nil
		}
		left--
		return p.add(state.AppendRow(p.raw, r))
	})
	if err == nil {
		err = p.flush()
	}
	return err
}

// packer gathers rows or tombstones to packets.
type packer struct {
	send       func(Packet) error
	tombstones bool
	raw        []byte
	count      uint32
}

// add takes the packet's content with one more thing in it.
func (p *packer) add(raw []byte) error {
	p.raw = raw
	p.count++
	if len(raw) < state.TargetChunkBytes {
		return nil
	}
	return p.flush()
}

func (p *packer) flush() error {
	if p.count == 0 {
		return nil
	}
	packed, err := Pack(nil, p.raw)
	if err != nil {
		return err
	}
	out := Packet{Tombstones: p.tombstones, Count: p.count, RawBytes: uint32(len(p.raw)), Packed: packed}
	p.raw, p.count = p.raw[:0], 0
	return p.send(out)
}

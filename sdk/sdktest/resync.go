package sdktest

import (
	"context"
	"encoding/binary"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
)

// piece makes one part of an answer.
func (k *kept) piece(content deliveryv1.Piece_Content, data []byte, change func(*deliveryv1.Piece)) rsocket.Payload {
	piece := &deliveryv1.Piece{Content: content}
	if change != nil {
		change(piece)
	}
	return payload(&deliveryv1.Delivery{Kind: deliveryv1.Delivery_KIND_PIECE, Piece: piece}, data)
}

// changes sends what is newer than a sequence.
func (p *Provider) changes(req rsocket.Payload) (rsocket.Source, error) {
	var q deliveryv1.ChangesRequest
	_, k, err := p.snapshotOf(req, &q)
	if err != nil {
		return nil, err
	}
	s := &listed{}
	err = k.Changes(context.Background(), lane.Sequence(q.GetSince()), p.pack(k, s))
	return s, err
}

// rows sends the rows that are asked for.
func (p *Provider) rows(req rsocket.Payload) (rsocket.Source, error) {
	var q deliveryv1.RowsRequest
	_, k, err := p.snapshotOf(req, &q)
	if err != nil {
		return nil, err
	}
	wanted := map[sketch.ID]struct{}{}
	for e := q.GetElements(); len(e) >= 8; e = e[8:] {
		wanted[sketch.ID(binary.BigEndian.Uint64(e))] = struct{}{}
	}
	s := &listed{}
	err = k.Pick(context.Background(), wanted, p.pack(k, s))
	return s, err
}

func (p *Provider) pack(k *kept, into *listed) func(snapshot.Packet) error {
	return func(one snapshot.Packet) error {
		content := deliveryv1.Piece_CONTENT_ROWS
		if one.Tombstones {
			content = deliveryv1.Piece_CONTENT_TOMBSTONES
		}
		into.payloads = append(into.payloads, k.piece(content, p.corrupted(Packets, one.Packed), func(piece *deliveryv1.Piece) { piece.Count, piece.RawBytes = one.Count, one.RawBytes }))
		return nil
	}
}

// firstSymbols are in the first block of a sketch; each further block is half as long as all before.
const firstSymbols = 32

// symbols is a sketch on its way.
type symbols struct {
	p    *Provider
	k    *kept
	sent int
}

func (p *Provider) sketch(req rsocket.Payload) (rsocket.Source, error) {
	var q deliveryv1.SketchRequest
	_, k, err := p.snapshotOf(req, &q)
	if err != nil {
		return nil, err
	}
	if k.symbols == nil {
		ids, err := k.IDs(context.Background())
		if err != nil {
			return nil, err
		}
		k.symbols = sketch.New(ids)
	}
	return &symbols{p, k, int(q.GetFrom())}, nil
}

// Next gives the next block, until there are more symbols than rows could need.
func (s *symbols) Next() (rsocket.Payload, rsocket.Signal) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.sent > 4*s.k.symbols.Elements()+4*firstSymbols {
		return rsocket.Payload{}, rsocket.Complete
	}
	n := max(firstSymbols, s.sent/2)
	block := sketch.AppendBlock(nil, s.k.symbols.Elements(), s.sent, s.k.symbols.Symbols(s.sent, s.sent+n))
	s.sent += n
	return s.k.piece(deliveryv1.Piece_CONTENT_SYMBOLS, block, nil), rsocket.Emit
}

// Requested needs nothing: the engine counts.
func (s *symbols) Requested(uint32) {}

// Closed has nothing to let go of.
func (s *symbols) Closed() {}

package gateway

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/admission"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/depot"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/streams"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/supply"
)

const (
	// maxAsking requests for a snapshot may wait for one at once.
	maxAsking = 4096
	// statusInterval is the least time between two accounts of how far a snapshot is.
	statusInterval = 200 * time.Millisecond
	// elementBytes is an element ID on the wire.
	elementBytes = 8
)

// asked is what all requests about a snapshot name. All generated requests have it.
type asked interface {
	GetStream() string
	GetPartition() uint32
	GetId() []byte
}

// rungs name the ways to resynchronise in metrics.
const (
	rungManifest  = "manifest"
	rungBootstrap = "bootstrap"
	rungChanges   = "changes"
	rungRepair    = "repair"
)

// send offers a piece to the consumer when the gateway's rate allows it.
type send func(piece *deliveryv1.Piece, data []byte) error

// resync is one stream of answers about a snapshot.
type resync struct {
	c      *connection
	source *supply.Source
	want   storage.Wanted
	rung   string
}

// resync checks what in names, takes a place, and answers from a task. what runs with the copy until the stream is over.
func (c *connection) resync(in asked, out *rsocket.Outbound, places *admission.Places, rung string, atLeast lane.Position, what func(ctx context.Context, r *resync) error) (rsocket.Source, error) {
	name := lane.StreamName(in.GetStream())
	if err := c.pass.Check(grants.Read, name); err != nil {
		return nil, err
	}
	id, ok := snapshot.ParseID(in.GetId())
	if !ok && (len(in.GetId()) > 0 || rung != rungManifest) {
		return nil, fault.New(fault.InvalidArgument, "a snapshot is named by %d bytes, and %d were given: ask %s first", snapshot.HashBytes, len(in.GetId()), protocol.RouteSnapshot)
	}
	r := &resync{c: c, source: supply.New(c.ctx, out), rung: rung, want: storage.Wanted{Stream: name, AtLeast: atLeast, ID: id}}
	var place any = placeKey{c, id}
	if rung == rungManifest {
		place = r // each waits on its own
	}
	release, err := places.Take(place)
	if err != nil {
		return nil, err
	}
	started := c.s.task(func(context.Context) {
		defer release()
		defer c.s.book.Watch(c.pass, grants.Read, name, r.source.Fail)()
		r.source.Make(func(ctx context.Context) error {
			return c.s.metrics.refusal(r.run(ctx, in.GetPartition(), what))
		})
	})
	if !started {
		release()
		r.source.Closed()
		return nil, stopping()
	}
	return r.source, nil
}

// placeKey: all streams of one connection about one snapshot have one place.
type placeKey struct {
	c  *connection
	id snapshot.ID
}

func (r *resync) run(ctx context.Context, partition uint32, what func(ctx context.Context, r *resync) error) error {
	stream, err := r.c.known(r.c.s.streams.Get(ctx, r.want.Stream))
	if err != nil {
		return err
	}
	if r.want.Lane, err = streams.Lane(stream, partition); err != nil {
		return err
	}
	if !stream.GetSpec().GetKeyed() {
		return fault.New(fault.NotKeyed, "stream %q has no keys and so no state to resynchronise with: subscribe instead", r.want.Stream)
	}
	return what(ctx, r)
}

// copied runs what with the snapshot that was asked for.
func copied(what func(ctx context.Context, c *depot.Copy, send send) error) func(context.Context, *resync) error {
	return func(ctx context.Context, r *resync) error {
		c, release, err := r.c.s.depot.Open(ctx, r.want, func(uint64, uint64) {})
		if err != nil {
			return err
		}
		defer release()
		return what(ctx, c, func(p *deliveryv1.Piece, data []byte) error {
			// Nothing the request has said is said again: beside a small repair it would weigh.
			return r.offer(ctx, &deliveryv1.Delivery{Kind: deliveryv1.Delivery_KIND_PIECE, Piece: p}, data)
		})
	}
}

// offer waits for the rate and for the consumer, in this order, so that what it holds is bounded by one piece more than is ready.
func (r *resync) offer(ctx context.Context, d *deliveryv1.Delivery, data []byte) error {
	metadata, err := proto.Marshal(d)
	if err != nil {
		return fault.New(fault.Internal, "encoding a delivery: %w", err)
	}
	bytes := len(metadata) + len(data)
	if err := r.c.s.bucket.Wait(ctx, bytes); err != nil {
		return err
	}
	// It is with the consumer as far as anybody can tell here: another gateway may have sent it the rest (S7).
	r.c.reach.Raise(r.want.Lane, lane.Position{Epoch: lane.Epoch(d.GetEpoch()), Sequence: lane.Sequence(d.GetTail())})
	r.c.s.metrics.resynced.WithLabelValues(r.rung).Add(float64(bytes))
	return r.source.Offer(rsocket.Payload{Metadata: metadata, Data: data})
}

// snapshot: statuses while it is made and fetched, then what it is, with its manifest unless that was not wanted.
func (c *connection) snapshot(in *deliveryv1.SnapshotRequest, out *rsocket.Outbound) (rsocket.Source, error) {
	atLeast := lane.Position{Epoch: lane.Epoch(in.GetAtLeast().GetEpoch()), Sequence: lane.Sequence(in.GetAtLeast().GetSequence())}
	return c.resync(in, out, c.s.asking, rungManifest, atLeast, func(ctx context.Context, r *resync) error {
		copy, release, err := c.s.depot.Open(ctx, r.want, r.progress())
		if err != nil {
			return err
		}
		defer release()
		d := &deliveryv1.Delivery{
			Kind: deliveryv1.Delivery_KIND_BOOTSTRAP, Partition: uint32(copy.Lane.Partition),
			Epoch: uint64(copy.At.Epoch), Tail: uint64(copy.At.Sequence), TailTimeMs: copy.AtTimeMS,
			Digest: &streamv1.DigestMark{Epoch: uint64(copy.At.Epoch), Sequence: uint64(copy.At.Sequence), Sum: copy.Set.Sum.Append(nil), Count: copy.Set.Count},
			Piece: &deliveryv1.Piece{
				Snapshot: copy.ID[:], Content: deliveryv1.Piece_CONTENT_MANIFEST, Floor: uint64(copy.Floor), RowBytes: copy.RowBytes(),
			},
		}
		if in.GetBrief() {
			return r.offer(ctx, d, nil)
		}
		return r.offer(ctx, d, copy.Encoded)
	})
}

// progress tells the consumer now and then how far the snapshot is.
func (r *resync) progress() depot.Progress {
	var last atomic.Int64
	return func(rows, expected uint64) {
		now, before := time.Now().UnixNano(), last.Load()
		if now-before < int64(statusInterval) || !last.CompareAndSwap(before, now) {
			return
		}
		metadata, err := proto.Marshal(&deliveryv1.Delivery{
			Kind: deliveryv1.Delivery_KIND_STATUS, Partition: uint32(r.want.Lane.Partition), Piece: &deliveryv1.Piece{Done: rows, Expected: expected},
		})
		if err == nil { // a message of numbers always encodes
			r.source.OfferStatus(rsocket.Payload{Metadata: metadata})
		}
	}
}

// chunks sends them as they are stored. One that was sent on this connection before is proven first: it may have arrived damaged.
func (c *connection) chunks(in *deliveryv1.ChunksRequest, out *rsocket.Outbound) (rsocket.Source, error) {
	ranges := in.GetRanges()
	if len(ranges) == 0 || len(ranges)%2 != 0 {
		return nil, fault.New(fault.InvalidArgument, "ranges has %d numbers: it wants pairs [from, until), at least one", len(ranges))
	}
	for i := 0; i < len(ranges); i += 2 {
		if ranges[i] >= ranges[i+1] || i > 0 && ranges[i] < ranges[i-1] {
			return nil, fault.New(fault.InvalidArgument, "[%d, %d) is not a range that rises from the one before", ranges[i], ranges[i+1])
		}
	}
	return c.resync(in, out, c.s.bootstraps, rungBootstrap, lane.Position{}, copied(func(ctx context.Context, copy *depot.Copy, send send) error {
		if last := ranges[len(ranges)-1]; int(last) > copy.Chunks() {
			return fault.New(fault.InvalidArgument, "snapshot %v has %d chunks, and chunk %d was asked for", copy.ID, copy.Chunks(), last-1)
		}
		for i := 0; i < len(ranges); i += 2 {
			for n := ranges[i]; n < ranges[i+1]; n++ {
				data, err := copy.Chunk(ctx, int(n), c.sent.again(copy, n))
				if err == nil {
					err = send(&deliveryv1.Piece{Content: deliveryv1.Piece_CONTENT_CHUNK, Chunk: n}, data)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

func (c *connection) changes(in *deliveryv1.ChangesRequest, out *rsocket.Outbound) (rsocket.Source, error) {
	return c.resync(in, out, c.s.repairs, rungChanges, lane.Position{}, copied(func(ctx context.Context, copy *depot.Copy, send send) error {
		since := lane.Sequence(in.GetSince())
		if since > copy.At.Sequence {
			return fault.New(fault.InvalidArgument, "snapshot %v is of sequence %d, and was asked what changed since %d: ask for a snapshot at least there", copy.ID, copy.At.Sequence, since)
		}
		return copy.Changes(ctx, since, packets(send))
	}))
}

func packets(send send) func(snapshot.Packet) error {
	return func(p snapshot.Packet) error {
		content := deliveryv1.Piece_CONTENT_ROWS
		if p.Tombstones {
			content = deliveryv1.Piece_CONTENT_TOMBSTONES
		}
		return send(&deliveryv1.Piece{Content: content, Count: p.Count, RawBytes: p.RawBytes}, p.Packed)
	}
}

func (c *connection) sketch(in *deliveryv1.SketchRequest, out *rsocket.Outbound) (rsocket.Source, error) {
	return c.resync(in, out, c.s.repairs, rungRepair, lane.Position{}, copied(func(ctx context.Context, copy *depot.Copy, send send) error {
		one, release := copy.OpenSketch()
		defer release()
		for at := in.GetFrom(); ; {
			block, next, err := one.Block(ctx, at)
			if err != nil || block == nil {
				return err
			}
			if err := send(&deliveryv1.Piece{Content: deliveryv1.Piece_CONTENT_SYMBOLS, Count: uint32(next - at)}, block); err != nil {
				return err
			}
			at = next
		}
	}))
}

func (c *connection) rows(in *deliveryv1.RowsRequest, out *rsocket.Outbound) (rsocket.Source, error) {
	elements := in.GetElements()
	if n := len(elements) / elementBytes; n == 0 || n > protocol.MaxRowsAsked || len(elements)%elementBytes != 0 {
		return nil, fault.New(fault.InvalidArgument, "elements has %d bytes: it wants 1 to %d IDs of %d bytes", len(elements), protocol.MaxRowsAsked, elementBytes)
	}
	return c.resync(in, out, c.s.repairs, rungRepair, lane.Position{}, copied(func(ctx context.Context, copy *depot.Copy, send send) error {
		wanted := make(map[sketch.ID]struct{}, len(elements)/elementBytes)
		for ; len(elements) > 0; elements = elements[elementBytes:] {
			wanted[sketch.ID(binary.BigEndian.Uint64(elements))] = struct{}{}
		}
		return copy.Pick(ctx, wanted, packets(send))
	}))
}

// maxSentSnapshots are remembered chunk by chunk, of each connection.
const maxSentSnapshots = 4

// sent remembers the chunks a connection was sent.
type sent struct {
	mu     sync.Mutex // protects what follows
	chunks map[snapshot.ID][]uint64
}

// again notes that chunk n is sent, and reports whether it was before.
func (s *sent) again(c *depot.Copy, n uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	bits, ok := s.chunks[c.ID]
	if !ok {
		if s.chunks == nil || len(s.chunks) >= maxSentSnapshots {
			s.chunks = make(map[snapshot.ID][]uint64, 1)
		}
		bits = make([]uint64, (c.Chunks()+63)/64)
		s.chunks[c.ID] = bits
	}
	bit := uint64(1) << (n % 64)
	before := bits[n/64]&bit != 0
	bits[n/64] |= bit
	return before
}

package sdktest

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
)

// keptSnapshots is how many snapshots of a lane are kept.
const keptSnapshots = 4

// kept is a snapshot that can be asked for.
type kept struct {
	snapshot.Artefact
	id      snapshot.ID
	encoded []byte
	chunks  []byte
	symbols *sketch.Sketch // made when it is asked for
	wrong   bool           // a row was lost in it: nobody gets it twice
}

// stored gives a chunk as it is kept.
func (k *kept) stored(n int) []byte {
	c := k.Chunk(n)
	return k.chunks[c.Offset : c.Offset+uint64(c.Bytes)]
}

// snapshotNow gives the snapshot of the state at the tail, and makes it when there is none.
func (l *laneLog) snapshotNow(name string, loseRow bool) (*kept, error) {
	at := lane.Position{Epoch: l.epoch, Sequence: l.tail}
	if n := len(l.snapshots); n > 0 && l.snapshots[n-1].At == at && !l.snapshots[n-1].wrong && !loseRow {
		return l.snapshots[n-1], nil
	}
	keys := slices.Sorted(maps.Keys(l.state))
	set := l.set
	if loseRow && len(keys) > 0 {
		lost := l.state[keys[0]]
		set.Remove(l.element(&lost))
		keys = keys[1:]
	}
	var out bytes.Buffer
	w := snapshot.NewWriter(&out, snapshot.Manifest{Stream: lane.StreamName(name), Lane: l.id, Seed: l.seed, At: at, AtTimeMS: l.tailMS, Set: set, Floor: l.floor})
	for _, key := range keys {
		rec := l.state[key]
		if err := w.AddRecord(l.hasher, &rec); err != nil {
			return nil, err
		}
	}
	for _, t := range l.tombstones() {
		if err := w.Tombstone(t); err != nil {
			return nil, err
		}
	}
	m, err := w.Finish()
	if err != nil {
		return nil, err
	}
	m.Set.Sum = l.set.Sum // another one when a row was lost
	k := &kept{chunks: out.Bytes(), wrong: loseRow}
	if k.encoded, k.id, err = m.Encode(); err != nil {
		return nil, err
	}
	k.Artefact = snapshot.Artefact{Manifest: m, Stored: func(n int, _ []byte) ([]byte, error) { return k.stored(n), nil }}
	l.snapshots = append(l.snapshots, k)
	if len(l.snapshots) > keptSnapshots {
		l.snapshots = l.snapshots[1:]
	}
	return k, nil
}

// tombstones gives the keys whose deletion is remembered, rising by sequence.
func (l *laneLog) tombstones() []state.Tombstone {
	list := make([]state.Tombstone, 0, len(l.dead))
	for key, at := range l.dead {
		list = append(list, state.Tombstone{Key: []byte(key), Sequence: at})
	}
	slices.SortFunc(list, func(a, b state.Tombstone) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return list
}

// decode reads the message of a request.
func decode(req rsocket.Payload, into proto.Message) error {
	if err := proto.Unmarshal(req.Data, into); err != nil {
		return fault.New(fault.Malformed, "the request does not decode: %w", err)
	}
	return nil
}

// ofSnapshot is a request for something of a snapshot.
type ofSnapshot interface {
	proto.Message
	GetStream() string
	GetPartition() uint32
	GetId() []byte
}

// snapshotOf reads a request and finds the kept snapshot that it names.
func (p *Provider) snapshotOf(req rsocket.Payload, q ofSnapshot) (*laneLog, *kept, error) {
	if err := decode(req, q); err != nil {
		return nil, nil, err
	}
	return p.snapshotNamed(q)
}

func (p *Provider) snapshotNamed(q ofSnapshot) (*laneLog, *kept, error) {
	l, err := p.lane(q.GetStream(), q.GetPartition())
	if err != nil {
		return nil, nil, err
	}
	for _, k := range l.snapshots {
		if bytes.Equal(k.id[:], q.GetId()) {
			return l, k, nil
		}
	}
	return nil, nil, fault.New(fault.SnapshotGone, "the snapshot %x of partition %d of stream %q is not kept any more", q.GetId(), q.GetPartition(), q.GetStream())
}

// snapshot answers with a manifest, after one status.
func (p *Provider) snapshot(req rsocket.Payload) (rsocket.Source, error) {
	var q deliveryv1.SnapshotRequest
	if err := decode(req, &q); err != nil {
		return nil, err
	}
	l, err := p.lane(q.GetStream(), q.GetPartition())
	if err != nil {
		return nil, err
	}
	if !l.keyed {
		return nil, fault.New(fault.NotKeyed, "stream %q has no keys, so it has no state", q.GetStream())
	}
	if p.faults.refuseSnapshots > 0 {
		p.faults.refuseSnapshots--
		return nil, fault.New(fault.Overloaded, "the test asked for this").With("retry_after_ms", "1")
	}
	if err := l.check(lane.Epoch(q.GetAtLeast().GetEpoch()), max(l.head, lane.Sequence(q.GetAtLeast().GetSequence()))); err != nil {
		return nil, err
	}
	var k *kept
	if len(q.GetId()) > 0 {
		_, k, err = p.snapshotNamed(&q)
	} else {
		k, err = l.snapshotNow(q.GetStream(), p.faults.bootstrapLosesRow)
		p.faults.bootstrapLosesRow = false
	}
	if err != nil {
		return nil, err
	}
	making := l.delivery(deliveryv1.Delivery_KIND_STATUS)
	making.Piece = &deliveryv1.Piece{Done: k.Set.Count, Expected: k.Set.Count}
	manifest := l.delivery(deliveryv1.Delivery_KIND_BOOTSTRAP)
	manifest.Piece = &deliveryv1.Piece{Snapshot: k.id[:], Content: deliveryv1.Piece_CONTENT_MANIFEST, Floor: uint64(k.Floor), RowBytes: k.RowBytes()}
	manifest.Digest, manifest.TailTimeMs = markOf(k.At, k.Set), k.AtTimeMS
	encoded := k.encoded
	if q.GetBrief() {
		encoded = nil
	}
	return &listed{payloads: []rsocket.Payload{payload(making, nil), payload(manifest, encoded)}}, nil
}

// chunks sends chunks as they are kept.
func (p *Provider) chunks(req rsocket.Payload) (rsocket.Source, error) {
	var q deliveryv1.ChunksRequest
	l, k, err := p.snapshotOf(req, &q)
	if err != nil {
		return nil, err
	}
	s := &chunkSource{p: p, l: l, k: k, stops: p.faults.bootstrapStops}
	for r := q.GetRanges(); len(r) > 0; r = r[2:] {
		if len(r) == 1 || r[0] >= r[1] || int(r[1]) > k.Chunks() || len(s.numbers) > 0 && r[0] <= s.numbers[len(s.numbers)-1] {
			return nil, fault.New(fault.InvalidArgument, "the ranges %v are not pairs that rise within %d chunks", q.GetRanges(), k.Chunks())
		}
		for n := r[0]; n < r[1]; n++ {
			s.numbers = append(s.numbers, n)
		}
	}
	p.counted.asked = append(p.counted.asked, len(s.numbers))
	return s, nil
}

// chunkCount is what was asked for and sent of chunks. Protected by the provider's mutex.
type chunkCount struct {
	asked []int
	sent  int
	bytes uint64
	after int    // chunks until do
	do    func() // nil for nothing
}

// ChunksAsked gives how many chunks each request for chunks asked for, in order.
func (p *Provider) ChunksAsked() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.counted.asked)
}

// ChunksSent gives how many chunks were sent to anybody, and how many bytes they had.
func (p *Provider) ChunksSent() (chunks int, bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counted.sent, p.counted.bytes
}

// AfterChunks calls do once, on a goroutine of its own, when n more chunks were sent.
func (p *Provider) AfterChunks(n int, do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counted.after, p.counted.do = n, do
}

// chunkSent counts, and does what was asked for.
func (p *Provider) chunkSent(bytes int) {
	c := &p.counted
	c.sent++
	c.bytes += uint64(bytes)
	if c.do != nil {
		if c.after--; c.after == 0 {
			go c.do() // ends by itself: it is the test's
			c.do = nil
		}
	}
	if p.faults.stopsAfter > 0 {
		if p.faults.stopsAfter--; p.faults.stopsAfter == 0 {
			p.faults.stopsAfter = -1
		}
	}
}

// chunkSource sends the numbered chunks of a snapshot.
type chunkSource struct {
	p       *Provider
	l       *laneLog
	k       *kept
	numbers []uint32
	stops   bool // before the last one
}

// Next gives the next chunk.
func (s *chunkSource) Next() (rsocket.Payload, rsocket.Signal) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	switch {
	case s.stops && len(s.numbers) <= 1, s.p.faults.stopsAfter < 0:
		return rsocket.Payload{}, rsocket.Wait
	case len(s.numbers) == 0:
		return rsocket.Payload{}, rsocket.Complete
	}
	n := s.numbers[0]
	s.numbers = s.numbers[1:]
	data := s.p.corrupted(Chunks, s.k.stored(int(n)))
	s.p.chunkSent(len(data))
	d := s.l.delivery(deliveryv1.Delivery_KIND_PIECE)
	d.Piece = &deliveryv1.Piece{Snapshot: s.k.id[:], Content: deliveryv1.Piece_CONTENT_CHUNK, Chunk: n}
	return payload(d, data), rsocket.Emit
}

// Requested needs nothing: the engine counts.
func (s *chunkSource) Requested(uint32) {}

// Closed has nothing to let go of.
func (s *chunkSource) Closed() {}

package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

const (
	modelPartitions = 2
	modelEpoch      = 1
)

// modelLane is one lane of the provider: its log and its digest at every sequence.
type modelLane struct {
	log  []record.Record
	sets []digest.Set // sets[s] at sequence s
	rows map[string]record.Record
}

// model drives a replica's writer by hand: what arrives, what somebody does to its rows, when they are read again.
type model struct {
	t        *testing.T
	random   *rand.Rand
	r        *Replica
	provider [modelPartitions]*modelLane
	file     *sql.DB // somebody else's connection
	// reread is set by a step in which the rows were read again.
	reread bool
	// suspect lanes had other rows than were written when they were read again, and no bootstrap or correction has followed.
	suspect map[lane.Partition]bool
	did     map[string]int
	// check notes what the step has found so far and looks whether I8 holds.
	check func()
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, random: rand.New(rand.NewPCG(seed, 8)), suspect: map[lane.Partition]bool{}, did: map[string]int{}}
	for i := range m.provider {
		m.provider[i] = &modelLane{sets: []digest.Set{{}}, rows: map[string]record.Record{}}
	}
	path := filepath.Join(t.TempDir(), "m.db")
	m.r = &Replica{
		orders: &orders{}, place: store.PlaceOf(path), reader: store.NewReader(), changed: make(chan struct{}), retry: pause.New(pause.Schedule{}),
		meta: store.Meta{Stream: "m", StreamID: 1, Partitions: modelPartitions, DigestSeed: 7},
		cfg: Config{Stream: "m", Path: path, Log: slog.New(slog.DiscardHandler), OnEvent: func(e Event) {
			m.did[e.Kind.String()]++
			m.reread = m.reread || e.Kind == DigestMismatch
		}},
	}
	unlock, err := m.r.place.Lock()
	m.must(err)
	t.Cleanup(func() {
		m.must(m.file.Close())
		m.must(m.r.gen.Close())
		m.must(m.r.reader.Close())
		unlock()
	})
	for range 8 {
		m.publish()
	}
	m.bootstrap()
	return m
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// publish appends a record to the provider's log.
func (m *model) publish() {
	rec := record.Record{Key: fmt.Appendf(nil, "k%d", m.random.IntN(12)), TimeMS: 5}
	l := m.provider[lane.Of(rec.Key, modelPartitions)]
	rec.Sequence = lane.Sequence(len(l.sets))
	if rec.Tombstone = m.random.IntN(5) == 0; !rec.Tombstone {
		rec.Value = fmt.Appendf(nil, "v%d", m.random.IntN(1000))
	}
	h := digest.NewHasher(m.r.meta.DigestSeed)
	set := l.sets[len(l.sets)-1]
	if before, ok := l.rows[string(rec.Key)]; ok {
		set.Remove(element(h, &before))
	}
	delete(l.rows, string(rec.Key))
	if !rec.Tombstone {
		l.rows[string(rec.Key)] = rec
		set.Add(element(h, &rec))
	}
	l.log, l.sets = append(l.log, rec), append(l.sets, set)
}

func element(h *digest.Hasher, r *record.Record) digest.Element {
	return h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)
}

// wireMark is the provider's digest at s.
func (m *model) wireMark(p lane.Partition, s lane.Sequence) *streamv1.DigestMark {
	set := m.provider[p].sets[s]
	return &streamv1.DigestMark{Epoch: modelEpoch, Sequence: uint64(s), Sum: set.Sum.Append(nil), Count: set.Count}
}

// deliver applies up to three batches, with digests of their ends, of earlier or of later sequences, or none.
func (m *model) deliver() {
	var parcels []parcel
	cursors := map[lane.Partition]lane.Sequence{}
	for range 1 + m.random.IntN(3) {
		p := lane.Partition(m.random.IntN(modelPartitions))
		l := m.provider[p]
		tail := lane.Sequence(len(l.log))
		cursor, ok := cursors[p]
		if !ok {
			cursor = m.r.lanes[p].Cursor.Sequence
		}
		d := &deliveryv1.Delivery{Kind: deliveryv1.Delivery_KIND_STATUS, Epoch: modelEpoch, Tail: uint64(tail)}
		one := parcel{delivery: d, lane: p}
		if cursor < tail && m.random.IntN(4) > 0 {
			d.Kind = deliveryv1.Delivery_KIND_BATCH
			base := max(1, cursor+1-lane.Sequence(m.random.IntN(2))) // sometimes repeats a record
			end := cursor + 1 + lane.Sequence(m.random.Uint64N(uint64(tail-cursor)))
			one.records = slices.Clone(l.log[base-1 : end])
			h := digest.NewHasher(m.r.meta.DigestSeed)
			for i := range one.records {
				var e digest.Element
				if !one.records[i].Tombstone {
					e = element(h, &one.records[i])
				}
				one.elements = append(one.elements, e)
			}
			one.header = batch.Header{Epoch: modelEpoch, Base: base, Count: uint32(len(one.records))}
			cursors[p], cursor = end, end
		}
		switch m.random.IntN(4) {
		case 0:
		case 1:
			d.Digest = m.wireMark(p, lane.Sequence(m.random.Uint64N(uint64(tail)+1)))
		default:
			d.Digest = m.wireMark(p, cursor)
		}
		parcels = append(parcels, one)
	}
	if err := m.r.apply(context.Background(), parcels); err != nil {
		var needed *resyncNeeded
		if !errors.As(err, &needed) {
			m.t.Fatal(err)
		}
		m.did["refused"]++
		defer m.r.doubt(needed.lane, needed.first, needed.why) // as connected does, later: what is checked meanwhile must hold without it
	}
	m.check()
}

// hear is what a new connection is told of the lanes.
func (m *model) hear() {
	s := &streamv1.Stream{}
	for p, l := range m.provider {
		s.Lanes = append(s.Lanes, &streamv1.Lane{Partition: uint32(p), Epoch: modelEpoch, Tail: uint64(len(l.log)),
			Digest: m.wireMark(lane.Partition(p), lane.Sequence(m.random.Uint64N(uint64(len(l.sets)))))})
	}
	m.r.hear(s)
}

// damage changes rows behind the replica's back.
func (m *model) damage() {
	key := fmt.Sprint("k", m.random.IntN(12))
	switch m.random.IntN(3) {
	case 0:
		_, err := m.file.Exec("UPDATE m SET value = 'mine' WHERE key = ?", key)
		m.must(err)
	case 1:
		_, err := m.file.Exec("DELETE FROM m WHERE key = ?", key)
		m.must(err)
	default:
		_, err := m.file.Exec("INSERT INTO m(key, value, seq, time) VALUES(?, 'extra', 1, 5) ON CONFLICT DO NOTHING", key)
		m.must(err)
	}
}

// bootstrap builds the provider's state of now and swaps it in.
func (m *model) bootstrap() {
	build, err := m.r.place.NewBuild(m.r.meta)
	m.must(err)
	defer build.Abandon()
	rows := map[string]record.Record{}
	var lanes []store.Lane
	for p, l := range m.provider {
		maps.Copy(rows, l.rows)
		lanes = append(lanes, store.Lane{Partition: lane.Partition(p), Cursor: lane.Position{Epoch: modelEpoch, Sequence: lane.Sequence(len(l.log))}, Set: l.sets[len(l.log)]})
	}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		one := rows[key]
		m.must(build.Add(&one))
	}
	_, err = build.Publish(context.Background(), store.Finish{Lanes: lanes, Previous: m.r.previous})
	m.must(err)
	if m.file != nil {
		m.must(m.file.Close())
	}
	m.must(m.r.swap(context.Background(), nil))
	m.file, err = sql.Open("sqlite3", m.r.gen.File()+"?_busy_timeout=5000")
	m.must(err)
	clear(m.suspect)
}

// step does one thing, knowing which lanes' rows are not what was written.
func (m *model) step() {
	sets, err := m.r.gen.Scan()
	m.must(err)
	var dirty []lane.Partition
	for _, l := range m.r.lanes {
		if sets[l.Partition] != l.Set {
			dirty = append(dirty, l.Partition)
		}
	}
	m.reread = false
	noted := func() {
		if m.reread {
			for _, p := range dirty {
				m.suspect[p] = true
				m.did["found"]++
			}
		}
	}
	m.check = func() { noted(); m.holds() }
	switch n := m.random.IntN(20); {
	case n < 6:
		m.publish()
	case n < 13:
		m.deliver()
	case n < 15:
		m.hear()
	case n < 17:
		m.damage()
	case n < 18:
		m.r.readAgain()
		m.reread = true
	case !m.r.need.none() || n == 18 && m.random.IntN(3) == 0:
		m.bootstrap()
		dirty = nil
	}
	m.check()
}

// doubts reports whether the replica itself asks for the lane to be made equal.
func (m *model) doubts(p lane.Partition) bool {
	_, doubted := m.r.need.lanes[p]
	return doubted
}

// holds is I8: what a re-read has found is not verified, and nobody who waits is told that it is.
func (m *model) holds() {
	m.t.Helper()
	sets, err := m.r.gen.Scan()
	m.must(err)
	for p := range m.suspect {
		l := m.r.lanes[p]
		if !m.doubts(p) && sets[p] == m.provider[p].sets[l.Cursor.Sequence] && sets[p] == l.Set { // a correction has made the rows equal
			delete(m.suspect, p)
			m.did["made equal"]++
		}
	}
	targets := make([]lane.Position, modelPartitions)
	for p := range targets { // the easiest there are
		targets[p] = lane.Position{Epoch: modelEpoch}
	}
	reached, _ := m.r.reached(targets)
	if reached {
		m.did["reached"]++
	}
	if reached && (len(m.suspect) > 0 || !m.r.need.none()) {
		m.t.Fatalf("WaitSynced returns while rows are known to be others in %v (%q)", m.suspect, m.r.need.why)
	}
	for _, s := range m.r.Status().Lanes {
		if (m.suspect[s.Partition] || m.doubts(s.Partition)) && s.VerifiedAt != (lane.Position{}) {
			m.t.Fatalf("partition %d is verified at %v while its rows are known to be others (%q)", s.Partition, s.VerifiedAt, m.r.need.why)
		}
	}
}

func TestNothingIsVerifiedAfterAFailedRereadUntilRowsAreEqual(t *testing.T) {
	did := map[string]int{}
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newModel(t, seed)
			for range 120 {
				m.step()
			}
			for what, n := range m.did {
				did[what] += n
			}
		})
	}
	for _, what := range []string{"found", "refused", "made equal", "reached", DigestMismatch.String(), MismatchExplained.String(), RowsChanged.String()} {
		if did[what] == 0 {
			t.Errorf("it never happened: %s (%v)", what, did)
		}
	}
	t.Log(did)
}

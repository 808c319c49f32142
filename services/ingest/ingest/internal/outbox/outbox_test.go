package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// appendFunc is an Appender.
type appendFunc func(ctx context.Context, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error)

func (f appendFunc) Append(ctx context.Context, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
	return f(ctx, in)
}

// meter notes what is reserved.
type meter struct {
	mu   sync.Mutex
	now  int64
	most int64
}

func (*meter) Sent(int, int, int)                   {}
func (*meter) Answered(time.Duration, fault.Reason) {}
func (m *meter) Reserved(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now, m.most = bytes, max(m.most, bytes)
}

// tally is an Owner that checks I2.
type tally struct {
	t    *testing.T
	mu   sync.Mutex
	seen map[uint32]Fate // by record
	done chan struct{}
}

func (o *tally) Settle(_ *Run, spans []Span, f Fate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range spans {
		for i := range s.Count {
			if _, twice := o.seen[s.First+i]; twice {
				o.t.Errorf("record %d settled twice", s.First+i)
			}
			at := f
			if f.Err == nil {
				at.Sequence, f.Sequence = f.Sequence, f.Sequence+1
			}
			o.seen[s.First+i] = at
		}
	}
}

func (o *tally) Done(*Run) { close(o.done) }

var testConfig = Config{LaneBytes: 1000, TotalBytes: 1500, BatchBytes: 1 << 20, BatchRecords: 4, AppendTimeout: time.Second, RetryFor: 2 * time.Second}

func newRun(t *testing.T, partition, n int, cost int64, session *Session) (*Run, *tally) {
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{Key: []byte("k"), Value: fmt.Append(nil, i), TimeMS: 1}
	}
	owner := &tally{t: t, seen: map[uint32]Fate{}, done: make(chan struct{})}
	return &Run{
		Stream: "s", Lane: lane.ID{Stream: 1, Partition: lane.Partition(partition)}, Session: session, Records: records,
		Spans: []Span{{0, uint32(n)}}, CostBytes: cost, Owner: owner,
	}, owner
}

func TestReserveWaitsForRoomAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := &meter{}
		o := New(testConfig, appendFunc(func(ctx context.Context, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
			select {
			case <-release:
			case <-ctx.Done():
				return nil, fault.New(fault.UnknownOutcome, "late")
			}
			return &sequencerv1.AppendResponse{Epoch: 1, FirstSequence: 1}, nil
		}), m)
		defer o.Close()
		first, owner := newRun(t, 0, 1, 800, new(Session))
		if err := o.Reserve(t.Context(), []*Run{first}, Patience(time.Second)); err != nil {
			t.Fatal(err)
		}
		o.Submit([]*Run{first})
		second, _ := newRun(t, 0, 1, 800, new(Session))
		started := time.Now()
		if err := o.Reserve(t.Context(), []*Run{second}, Patience(300*time.Millisecond)); !errors.Is(err, fault.Overloaded) {
			t.Fatalf("a full lane took more: %v", err)
		}
		if waited := time.Since(started); waited != 300*time.Millisecond {
			t.Errorf("waited %v", waited)
		}
		other, _ := newRun(t, 1, 1, 800, new(Session)) // another lane, but the total is full
		if err := o.Reserve(t.Context(), []*Run{other}, Patience(0)); !errors.Is(err, fault.Overloaded) {
			t.Fatalf("a full outbox took more: %v", err)
		}
		third, thirdOwner := newRun(t, 0, 1, 5000, new(Session)) // larger than the bound: passes alone
		waiting := make(chan error)
		go func() { waiting <- o.Reserve(t.Context(), []*Run{third}, Endless) }()
		synctest.Wait()
		select {
		case <-waiting:
			t.Fatal("there was no room, and Reserve returned")
		default:
		}
		close(release)
		<-owner.done
		if err := <-waiting; err != nil {
			t.Fatal(err)
		}
		o.Submit([]*Run{third})
		<-thirdOwner.done
		synctest.Wait()
		if m.now != 0 || m.most > testConfig.TotalBytes || len(o.queues) != 0 {
			t.Errorf("%d bytes still reserved, at most %d were, %d lanes kept", m.now, m.most, len(o.queues))
		}
	})
}

func TestOverloadedSequencerIsAskedAgainThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		o := New(testConfig, appendFunc(func(context.Context, *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
			calls++
			return nil, fault.New(fault.Overloaded, "behind")
		}), &meter{})
		defer o.Close()
		session := new(Session)
		r, owner := newRun(t, 0, 10, 100, session) // three batches
		if err := o.Reserve(t.Context(), []*Run{r}, Endless); err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		o.Submit([]*Run{r})
		<-owner.done
		if took := time.Since(started); took > testConfig.RetryFor || took < testConfig.RetryFor/2 {
			t.Errorf("gave up after %v", took)
		}
		if calls < 4 || calls > 20 {
			t.Errorf("%d calls", calls)
		}
		if !errors.Is(owner.seen[0].Err, fault.Overloaded) || !errors.Is(owner.seen[9].Err, fault.Unavailable) || !session.Broken() {
			t.Errorf("first %v, last %v", owner.seen[0].Err, owner.seen[9].Err)
		}
	})
}

func TestCloseSettlesEverything(t *testing.T) {
	o := New(testConfig, appendFunc(func(ctx context.Context, _ *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
		<-ctx.Done()
		return nil, fault.New(fault.UnknownOutcome, "cut")
	}), &meter{})
	r, owner := newRun(t, 0, 10, 100, new(Session))
	if err := o.Reserve(t.Context(), []*Run{r}, Endless); err != nil {
		t.Fatal(err)
	}
	o.Submit([]*Run{r})
	late, lateOwner := newRun(t, 0, 1, 100, new(Session))
	if err := o.Reserve(t.Context(), []*Run{late}, Endless); err != nil {
		t.Fatal(err)
	}
	o.Close()
	<-owner.done
	o.Submit([]*Run{late})
	<-lateOwner.done
	if len(owner.seen) != 10 || !errors.Is(lateOwner.seen[0].Err, fault.Unavailable) {
		t.Errorf("%d settled; late: %v", len(owner.seen), lateOwner.seen[0].Err)
	}
}

// TestAnySequenceOfRefusals plays random refusals, faults and losses against many runs, and holds the outbox to I1, I2 and I4.
func TestAnySequenceOfRefusals(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) { playRefusals(t, seed) })
	}
}

func playRefusals(t *testing.T, seed uint64) {
	rnd, sequencerRnd := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
	var log []string // values stored, in order; read when every run is done
	flying := false
	m := &meter{}
	o := New(testConfig, appendFunc(func(_ context.Context, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
		if flying {
			t.Error("two appends of a lane at a time")
		}
		flying = true
		defer func() { flying = false }()
		time.Sleep(time.Duration(sequencerRnd.IntN(3)) * time.Millisecond)
		if sequencerRnd.IntN(12) == 0 {
			return nil, fault.New(fault.UnknownOutcome, "lost")
		}
		if sequencerRnd.IntN(10) == 0 {
			return nil, fault.New(fault.InvalidArgument, "one of them is bad")
		}
		if sequencerRnd.IntN(3) == 0 {
			if refusals, some := randomRefusals(sequencerRnd, in.GetRuns()); some {
				return &sequencerv1.AppendResponse{Refusals: refusals}, nil
			}
		}
		first := uint64(len(log) + 1)
		if err := stampAndRead(in.GetBatch(), &log); err != nil {
			t.Error(err)
		}
		return &sequencerv1.AppendResponse{Epoch: 1, FirstSequence: first}, nil
	}), m)
	defer o.Close()
	sessions := []*Session{new(Session), new(Session), new(Session)}
	type sent struct {
		run   *Run
		owner *tally
		who   int
	}
	var all []sent
	for i := range 12 {
		who := rnd.IntN(len(sessions))
		r, owner := newRun(t, 0, 1+rnd.IntN(9), 10, sessions[who])
		for j := range r.Records {
			r.Records[j].Value = fmt.Appendf(nil, "%d.%d", i, j)
		}
		if n := len(r.Records); n > 4 { // leave one out, as other lanes' records are
			r.Spans = []Span{{0, 2}, {3, uint32(n - 3)}}
		}
		if err := o.Reserve(t.Context(), []*Run{r}, Endless); err != nil {
			t.Fatal(err)
		}
		o.Submit([]*Run{r})
		all = append(all, sent{r, owner, who})
		time.Sleep(time.Duration(rnd.IntN(2)) * time.Millisecond)
	}
	lastOf := map[int]lane.Sequence{}
	broken := map[int]bool{}
	stored := 0
	for _, s := range all {
		<-s.owner.done
	}
	for i, s := range all {
		if len(s.owner.seen) != int(countOf(s.run.Spans)) {
			t.Fatalf("seed %d: run %d: %d of %d records settled", seed, i, len(s.owner.seen), countOf(s.run.Spans))
		}
		for _, span := range s.run.Spans {
			for j := span.First; j < span.First+span.Count; j++ {
				f := s.owner.seen[j]
				switch {
				case f.Err != nil:
					broken[s.who] = broken[s.who] || fault.ReasonOf(f.Err).Temporary()
				case f.Duplicate:
				default:
					stored++
					if broken[s.who] {
						t.Fatalf("seed %d: record %d.%d was stored behind a temporary failure of its session", seed, i, j)
					}
					if want := fmt.Sprintf("%d.%d", i, j); log[f.Sequence-1] != want {
						t.Fatalf("seed %d: %s was answered with the sequence of %s", seed, want, log[f.Sequence-1])
					}
					if f.Sequence <= lastOf[s.who] {
						t.Fatalf("seed %d: record %d.%d is out of order", seed, i, j)
					}
					lastOf[s.who] = f.Sequence
				}
			}
		}
	}
	synctest.Wait()
	if stored != len(log) || m.now != 0 {
		t.Fatalf("seed %d: %d answered, %d stored, %d bytes still reserved", seed, stored, len(log), m.now)
	}
}

// randomRefusals refuses some records of some runs.
func randomRefusals(rnd *rand.Rand, runs []*sequencerv1.ProducerRun) (refusals []*sequencerv1.RunRefusal, some bool) {
	for _, run := range runs {
		refusal := &sequencerv1.RunRefusal{}
		switch rnd.IntN(4) {
		case 0:
			refusal.Fault = &streamv1.Fault{Reason: string(fault.OutOfOrder)}
			some = true
		case 1:
			for at := uint32(0); at < run.GetCount(); at++ {
				if rnd.IntN(2) == 0 {
					n := 1 + rnd.Uint32N(run.GetCount()-at)
					refusal.Duplicates = append(refusal.Duplicates, &sequencerv1.Duplicate{Offset: at, Count: n, Epoch: 1, FirstSequence: 1})
					at += n
					some = true
				}
			}
		}
		refusals = append(refusals, refusal)
	}
	return refusals, some
}

// stampAndRead appends the values of a draft to log.
func stampAndRead(draft []byte, log *[]string) error {
	h, err := batch.ParseDraft(draft)
	if err != nil {
		return err
	}
	body, err := batch.Body(&h, draft, nil)
	if err != nil {
		return err
	}
	reader := record.NewReader(body, 1)
	var r record.Record
	for reader.Next(&r) {
		*log = append(*log, string(r.Value))
	}
	return reader.Err()
}

func TestOneBadRunDoesNotSpoilTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		appends := 0
		cfg := testConfig
		cfg.BatchRecords = 100
		o := New(cfg, appendFunc(func(_ context.Context, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
			appends++
			time.Sleep(time.Millisecond) // the others gather meanwhile
			for _, run := range in.GetRuns() {
				if run.GetProducerId() == "bad" {
					return nil, fault.New(fault.InvalidArgument, "no such producer")
				}
			}
			first := uint64(len(log) + 1)
			if err := stampAndRead(in.GetBatch(), &log); err != nil {
				t.Error(err)
			}
			return &sequencerv1.AppendResponse{Epoch: 1, FirstSequence: first}, nil
		}), &meter{})
		defer o.Close()
		var owners []*tally
		for i := range 9 {
			r, owner := newRun(t, 0, 2, 10, new(Session))
			r.Records[0].Value, r.Records[1].Value = fmt.Append(nil, i, "a"), fmt.Append(nil, i, "b")
			if i == 5 {
				r.Producer = Producer{ID: "bad", Epoch: 7, First: 1}
			}
			if err := o.Reserve(t.Context(), []*Run{r}, Endless); err != nil {
				t.Fatal(err)
			}
			o.Submit([]*Run{r})
			owners = append(owners, owner)
		}
		next := lane.Sequence(1)
		for i, owner := range owners {
			<-owner.done
			if i == 5 {
				if !errors.Is(owner.seen[0].Err, fault.InvalidArgument) || !errors.Is(owner.seen[1].Err, fault.InvalidArgument) {
					t.Errorf("the bad run: %v", owner.seen)
				}
				continue
			}
			if owner.seen[0].Err != nil || owner.seen[0].Sequence != next {
				t.Errorf("run %d: %+v, want sequence %d", i, owner.seen[0], next)
			}
			next += 2
		}
		if appends > 10 {
			t.Errorf("%d appends", appends)
		}
	})
}

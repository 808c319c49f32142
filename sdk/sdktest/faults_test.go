package sdktest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/sdk/consumer"
	"github.com/lockstep-mq/lockstep/sdk/replica"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// met is a fault that is asked for while the consumer is away, between records [0, 30) and [30, 60).
type met struct {
	ask func(*sdktest.Provider) error
	// live happens when the consumer has come back.
	live func(*sdktest.Provider) error
	// fresh: the replica has lost its file.
	fresh bool
	// replayed: every record passes through Apply, and once.
	replayed bool
}

func matrix() map[string]met {
	always := func(act func(*sdktest.Provider)) func(*sdktest.Provider) error {
		return func(p *sdktest.Provider) error { act(p); return nil }
	}
	return map[string]met{
		"none":           {replayed: true},
		"gap":            {ask: always(func(p *sdktest.Provider) { p.Gap(3) }), replayed: true},
		"batches":        {ask: always(func(p *sdktest.Provider) { p.Corrupt(sdktest.Batches, 3) }), replayed: true},
		"chunks":         {ask: always(func(p *sdktest.Provider) { p.Corrupt(sdktest.Chunks, 2) }), fresh: true},
		"packets":        {ask: func(p *sdktest.Provider) error { p.Corrupt(sdktest.Packets, 1); return p.Expire("orders", 0, 50) }},
		"expire":         {ask: func(p *sdktest.Provider) error { return p.Expire("orders", 0, 50) }},
		"disconnect":     {live: always((*sdktest.Provider).Disconnect), replayed: true},
		"slow":           {ask: always(func(p *sdktest.Provider) { p.Slow(2 * time.Millisecond) }), replayed: true},
		"rotate epoch":   {ask: func(p *sdktest.Provider) error { return p.RotateEpoch("orders", 0, 20) }},
		"rotated alive":  {live: func(p *sdktest.Provider) error { return p.RotateEpoch("orders", 0, 20) }},
		"all the others": {ask: always(func(p *sdktest.Provider) { p.Gap(2); p.Corrupt(sdktest.Batches, 2); p.Slow(time.Millisecond) }), live: always((*sdktest.Provider).Disconnect), replayed: true},
	}
}

type desk struct {
	*testing.T
	p   *sdktest.Provider
	ctx context.Context
}

func newDesk(t *testing.T) *desk {
	p, err := sdktest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	d := &desk{t, p, ctx}
	d.must(p.CreateStream(sdktest.Stream{Name: "orders", Keyed: true}))
	return d
}

func (d *desk) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// put publishes records [from, to), some of them deletions.
func (d *desk) put(from, to int) {
	d.Helper()
	for i := from; i < to; i++ {
		if key := fmt.Sprint("k", i%13); i%11 == 10 {
			d.must(d.p.Delete("orders", key))
		} else {
			d.must(d.p.Put("orders", key, fmt.Sprint(i)))
		}
	}
}

func (d *desk) happen(act func(*sdktest.Provider) error) {
	d.Helper()
	if act != nil {
		d.must(act(d.p))
	}
}

// A replica comes back into each fault: its rows are the provider's, and what Apply keeps beside them is what they say. A record that passes
// through Apply a second time breaks a constraint there.
func TestReplicaMeetsEveryFault(t *testing.T) {
	for name, m := range matrix() {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			dir := t.TempDir()
			cfg := replica.Config{Stream: "orders", Path: filepath.Join(dir, "a.db"), Gateways: []string{d.p.Gateway()}, RetryFirst: time.Millisecond, RetryLongest: 10 * time.Millisecond,
				Rebuild: func(ctx context.Context, tx *sql.Tx) error {
					if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS passed(seq INTEGER PRIMARY KEY)`); err != nil {
						return err
					}
					return rebuilt(ctx, tx)
				},
				Apply: func(ctx context.Context, tx *sql.Tx, batch replica.Batch) error {
					for i := range batch.Changes {
						if !m.replayed {
							break
						}
						if _, err := tx.ExecContext(ctx, `INSERT INTO passed VALUES(?)`, batch.Changes[i].Sequence); err != nil {
							return err
						}
					}
					return applied(ctx, tx, batch)
				}}
			r, err := replica.Open(d.ctx, cfg)
			d.must(err)
			d.sync(r)
			d.put(0, 30)
			d.sync(r)
			d.must(r.Close())
			d.put(30, 60)
			d.happen(m.ask)
			if m.fresh {
				cfg.Path = filepath.Join(dir, "b.db")
			}
			r, err = replica.Open(d.ctx, cfg)
			d.must(err)
			d.sync(r)
			d.happen(m.live)
			d.put(60, 70)
			d.sync(r)
			d.compare(r, m)
			d.must(r.Close())
		})
	}
}

func (d *desk) sync(r *replica.Replica) {
	d.Helper()
	if err := r.WaitSynced(d.ctx); err != nil {
		d.Fatalf("%v: %+v", err, r.Status())
	}
}

func (d *desk) compare(r *replica.Replica, m met) {
	d.Helper()
	rows, err := r.DB().QueryContext(d.ctx, `SELECT key, value FROM orders`)
	d.must(err)
	defer rows.Close()
	want := d.p.State("orders")
	n := 0
	for rows.Next() {
		var key, value string
		d.must(rows.Scan(&key, &value))
		if n++; want[key] != value {
			d.Errorf("%s is %q, and the provider has %q", key, value, want[key])
		}
	}
	d.must(rows.Err())
	var kept, due, passed int
	d.must(r.DB().QueryRowContext(d.ctx, `SELECT (SELECT amount FROM total), (SELECT sum(CAST(CAST(value AS TEXT) AS INTEGER)) FROM orders), (SELECT count(*) FROM passed)`).Scan(&kept, &due, &passed))
	if n != len(want) || kept != due {
		d.Errorf("%d rows, and the provider has %d; Apply has kept %d, and the rows say %d", n, len(want), kept, due)
	}
	if m.replayed && passed != 70 {
		d.Errorf("%d of 70 records have passed through Apply", passed)
	}
}

// A log consumer comes back into each fault: every record is given in order and once, and what is lost is told exactly.
func TestConsumerMeetsEveryFault(t *testing.T) {
	for name, m := range matrix() {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			var lost []consumer.Expired
			cfg := consumer.Config{Stream: "orders", Gateways: []string{d.p.Gateway()}, ConsumerID: "mailer", RetryFirst: time.Millisecond, RetryLongest: 10 * time.Millisecond,
				OnLoss: func(e *consumer.Expired) consumer.Choice { lost = append(lost, *e); return consumer.SkipToHead }}
			next, until, cuts := uint64(1), uint64(30), 0
			follow := func(at func()) {
				c, err := consumer.Open(cfg)
				d.must(err)
				for rec, err := range c.Records(d.ctx) {
					var cut *consumer.HistoryCut
					if errors.As(err, &cut) {
						cuts++
						next, until = uint64(cut.Tail)+1, d.p.Tail("orders", 0)
						if next > until {
							break
						}
						continue
					}
					d.must(err)
					for len(lost) > 0 && uint64(lost[0].From) == next {
						next, lost = uint64(lost[0].Head), lost[1:]
					}
					if uint64(rec.Position.Sequence) != next {
						d.Fatalf("%v came where %d was next", rec.Position, next)
					}
					c.Ack(rec)
					if next++; at != nil {
						at()
						at = nil
					}
					if next > until {
						break
					}
				}
				d.must(c.Close())
			}
			d.put(0, 30)
			follow(nil)
			d.put(30, 60)
			d.happen(m.ask)
			until = max(60, d.p.Tail("orders", 0))
			follow(func() {
				d.happen(m.live)
				d.put(60, 70)
				if until = d.p.Tail("orders", 0); until < next {
					until = math.MaxUint64 // until the cut is told
				}
			})
			if want := d.p.Tail("orders", 0); next != want+1 || len(lost) != 0 {
				d.Fatalf("followed to %d of %d; lost and not passed: %v", next-1, want, lost)
			}
			if rotated := name == "rotate epoch" || name == "rotated alive"; rotated != (cuts == 1) {
				d.Fatalf("%d cuts of history were told", cuts)
			}
		})
	}
}

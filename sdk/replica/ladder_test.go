package replica_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/sdk/replica"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

// order sends a command until it has ended, as gateways do, and gives what the replica reports of it.
func (d *desk) order(r *replica.Replica, reset *deliveryv1.Reset) *consumerv1.ResetProgress {
	d.t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	ctx, cancel := context.WithTimeout(d.t.Context(), deadline)
	defer cancel()
	for {
		if err := d.p.Command("orders", string(r.ConsumerID()), reset); err != nil {
			d.t.Fatal(err)
		}
		select {
		case <-d.obeyed:
			for _, p := range r.Status().Resets {
				if p.GetCommandId() == reset.GetCommandId() {
					return p
				}
			}
			d.t.Fatalf("the command %s ended and is not reported: %+v", reset.GetCommandId(), r.Status())
		case <-again.C:
		case <-ctx.Done():
			d.t.Fatalf("the command %s does not end: %+v", reset.GetCommandId(), r.Status())
		}
	}
}

// churn changes, adds and deletes keys at random.
func (d *desk) churn(seed uint64, n, keys int) {
	d.t.Helper()
	random := rand.New(rand.NewPCG(seed, seed))
	records := make([]sdktest.Record, n)
	for i := range records {
		records[i] = sdktest.Record{Key: fmt.Sprintf("key-%06d", random.IntN(keys)), Value: fmt.Appendf(nil, `{"n":%d,"pad":"%0*d"}`, random.IntN(1000), random.IntN(200), random.Uint32())}
		if random.IntN(5) == 0 {
			records[i].Value, records[i].Tombstone = nil, true
		}
	}
	for len(records) > 0 {
		part := records[:min(len(records), 500)]
		if err := d.p.Publish("orders", part...); err != nil {
			d.t.Fatal(err)
		}
		records = records[len(part):]
	}
}

// expireAll removes the whole log.
func (d *desk) expireAll(partitions uint32) {
	d.t.Helper()
	for p := range partitions {
		if err := d.p.Expire("orders", p, d.p.Tail("orders", p)+1); err != nil {
			d.t.Fatal(err)
		}
	}
}

// Away for long, with everything changed meanwhile and the log gone: what changed is fetched, deletions included.
func TestAbsenceBeyondTheLogIsBridgedByChanges(t *testing.T) {
	const partitions = 3
	d := newDesk(t, partitions)
	d.fill(2000)
	r := d.open()
	d.sync(r)
	d.close(r)
	d.churn(1, 6000, 2500)
	d.expireAll(partitions)
	r = d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.ChangesTaken != partitions || s.Bootstraps+s.Repairs != 0 || s.MovedBytes == 0 {
		t.Fatalf("got %+v", s)
	}
	d.put("goes on", "from there")
	d.sync(r)
	d.same()
}

// Deletions that nobody remembers are found by comparing.
func TestForgottenDeletionsAreFoundByRepair(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(1000)
	r := d.open()
	d.sync(r)
	d.close(r)
	for i := range 20 {
		if err := d.p.Delete("orders", fmt.Sprintf("key-%06d", 7*i)); err != nil {
			t.Fatal(err)
		}
	}
	d.expireAll(1)
	if err := d.p.ForgetDeletions("orders", 0, 1010); err != nil {
		t.Fatal(err)
	}
	r = d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.Repairs != 1 || s.ChangesTaken+s.Bootstraps != 0 || d.happened(replica.Climbing) != 1 {
		t.Fatalf("got %+v", s)
	}
}

// Rows that are wrong below what changed make the digest differ afterwards: the changes are undone, and a repair follows.
func TestChangesOnWrongRowsAreUndone(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.TrustFile = true
	d.fill(1000)
	r := d.open()
	d.sync(r)
	d.close(r)
	d.exec(`UPDATE orders SET value='forged' WHERE key='key-000900'; UPDATE _lockstep_lanes SET digest_sum='00000000000000010000000000000001'`)
	d.put("key-000001", "new")
	d.expireAll(1)
	r = d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.Repairs != 1 || s.ChangesTaken+s.Bootstraps != 0 {
		t.Fatalf("got %+v", s)
	}
}

// A difference that costs more to find than a copy is not looked for.
func TestTooDifferentLeadsToBootstrap(t *testing.T) {
	d := newDesk(t, 1)
	d.churn(2, 12_000, 8000)
	r := d.open()
	d.sync(r)
	d.close(r)
	d.exec(`UPDATE orders SET value=value||'x'`)
	r = d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 1 || s.Repairs != 0 || d.happened(replica.Climbing) != 1 {
		t.Fatalf("got %+v", s)
	}
}

// One wrong row among many costs about a row to heal, whatever is wrong with it.
func TestRepairMovesLittle(t *testing.T) {
	for name, change := range map[string]string{
		"a flipped bit": `UPDATE orders SET value=replace(value,'n','o') WHERE key='key-000007'`,
		"missing":       `DELETE FROM orders WHERE key='key-000007'`,
		"extra":         `INSERT INTO orders VALUES('phantom','x',NULL,1,1)`,
		"stale":         `UPDATE orders SET seq=seq-1 WHERE key='key-000007'`,
		"renamed":       `UPDATE orders SET key='key-xxx' WHERE key='key-000007'`,
		"a blob key":    `UPDATE orders SET key=CAST(key AS BLOB) WHERE key='key-000007'`,
		"an empty key":  `INSERT INTO orders VALUES('','x',NULL,1,1)`,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, 2)
			d.fill(20_000)
			r := d.open()
			d.sync(r)
			d.close(r)
			d.exec(change)
			before, err := replica.Verify(t.Context(), d.cfg, d.path)
			if err != nil || before.Verdict != replica.Different {
				t.Fatalf("verify: %+v, %v", before, err)
			}
			r = d.open()
			d.sync(r)
			d.same()
			if s := r.Status(); s.Bootstraps != 0 || s.Repairs == 0 || s.MovedBytes > 4000 {
				t.Fatalf("got %+v", s)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	d := newDesk(t, 2)
	d.fill(500)
	r := d.open()
	d.sync(r)
	done := func(p *consumerv1.ResetProgress) {
		t.Helper()
		if p.GetState() != consumerv1.ResetState_RESET_STATE_DONE || p.GetProblem() != "" || len(p.GetDigests()) != 2 {
			t.Errorf("got %v", p)
		}
	}
	forge := func() {
		d.exec(`UPDATE orders SET value='forged' WHERE key IN ('key-000001','key-000002'); DELETE FROM orders WHERE key='key-000003'; INSERT INTO orders VALUES('phantom','x',NULL,1,1)`)
	}

	p := d.order(r, &deliveryv1.Reset{CommandId: "v1", Action: consumerv1.Action_ACTION_VERIFY})
	if done(p); p.GetDiffering()+p.GetMissing()+p.GetExtra() != 0 {
		t.Errorf("an equal replica was found to differ: %v", p)
	}
	forge()
	p = d.order(r, &deliveryv1.Reset{CommandId: "dry", Action: consumerv1.Action_ACTION_REPAIR, DryRun: true})
	if done(p); p.GetDiffering() != 2 || p.GetMissing() != 1 || p.GetExtra() != 1 || p.GetMovedBytes() == 0 {
		t.Errorf("the dry run found %v", p)
	}
	if got := d.rows()["key-000001"]; got != "forged" {
		t.Errorf("the dry run changed a row to %q", got)
	}
	p = d.order(r, &deliveryv1.Reset{CommandId: "r1", Action: consumerv1.Action_ACTION_REPAIR, MaxBytesPerSecond: 10 << 20})
	if done(p); p.GetDiffering() != 2 || p.GetRung() != consumerv1.Rung_RUNG_REPAIR {
		t.Errorf("the repair did %v", p)
	}
	d.same()

	// A verification that finds something is followed by the repair.
	forge()
	p = d.order(r, &deliveryv1.Reset{CommandId: "v2", Action: consumerv1.Action_ACTION_VERIFY})
	if done(p); p.GetDiffering() != 2 || p.GetMissing() != 1 || p.GetExtra() != 1 {
		t.Errorf("the verification found %v", p)
	}
	d.sync(r)
	d.same()

	p = d.order(r, &deliveryv1.Reset{CommandId: "f1", Action: consumerv1.Action_ACTION_FULL})
	if done(p); r.Status().Bootstraps != 2 || p.GetRung() != consumerv1.Rung_RUNG_BOOTSTRAP {
		t.Errorf("%d bootstraps, %v", r.Status().Bootstraps, p)
	}
	p = d.order(r, &deliveryv1.Reset{CommandId: "s1", Action: consumerv1.Action_ACTION_FROM_SEQUENCE, From: []*consumerv1.Cursor{
		{Partition: 0, Position: &streamv1.Position{Sequence: 1}}, {Partition: 1, Position: &streamv1.Position{Sequence: 1}}}})
	if done(p); p.GetRung() != consumerv1.Rung_RUNG_CHANGES {
		t.Errorf("from a sequence: %v", p)
	}
	p = d.order(r, &deliveryv1.Reset{CommandId: "x1", Action: 99})
	if p.GetState() != consumerv1.ResetState_RESET_STATE_FAILED || !strings.Contains(p.GetProblem(), "upgrade") {
		t.Errorf("an unknown command: %v", p)
	}

	// What has ended is not done again, also by another life of the replica.
	d.close(r)
	d.churn(3, 10, 500)
	r = d.open()
	d.sync(r)
	if err := d.p.Command("orders", string(r.ConsumerID()), &deliveryv1.Reset{CommandId: "f1", Action: consumerv1.Action_ACTION_FULL}); err != nil {
		t.Fatal(err)
	}
	d.order(r, &deliveryv1.Reset{CommandId: "v3", Action: consumerv1.Action_ACTION_VERIFY})
	if s := r.Status(); s.Bootstraps != 0 {
		t.Errorf("the command was obeyed twice: %+v", s)
	}
	d.same()
}

// The rows that a rung of the ladder changes pass through Apply, once, as the newest version of each key.
func TestApplyHearsOfChangesAndRepairs(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.Apply = func(ctx context.Context, tx *sql.Tx, b replica.Batch) error {
		if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS mirror(key TEXT PRIMARY KEY, value)`); err != nil {
			return err
		}
		for _, c := range b.Changes {
			query, args := `INSERT OR REPLACE INTO mirror VALUES(?,?)`, []any{c.Key, string(c.Value)}
			if c.Kind == replica.Delete {
				query, args = `DELETE FROM mirror WHERE key=?`, args[:1]
			}
			if _, err := tx.ExecContext(ctx, query, args...); err != nil {
				return err
			}
		}
		return nil
	}
	r := d.open()
	d.sync(r)
	d.fill(300)
	d.sync(r)
	d.close(r)
	d.churn(4, 500, 400)
	d.expireAll(1)
	r = d.open()
	d.sync(r)
	d.same()
	mirrored := func() (n, same int) {
		t.Helper()
		if err := r.DB().QueryRow(`SELECT (SELECT count(*) FROM mirror), (SELECT count(*) FROM orders JOIN mirror USING(key) WHERE orders.value=mirror.value)`).Scan(&n, &same); err != nil {
			t.Fatal(err)
		}
		return n, same
	}
	rows := len(d.rows())
	if n, same := mirrored(); r.Status().ChangesTaken != 1 || n != rows || same != rows {
		t.Errorf("after changes the user's table has %d rows, %d of them right; there are %d", n, same, rows)
	}
	d.exec(`DELETE FROM orders WHERE key IN (SELECT key FROM orders LIMIT 3); DELETE FROM mirror WHERE key NOT IN (SELECT key FROM orders); INSERT INTO orders VALUES('phantom','x',NULL,1,1); INSERT INTO mirror VALUES('phantom','x')`)
	d.order(r, &deliveryv1.Reset{CommandId: "r", Action: consumerv1.Action_ACTION_REPAIR})
	d.same()
	if n, same := mirrored(); n != rows || same != rows {
		t.Errorf("after a repair the user's table has %d rows, %d of them right; there are %d", n, same, rows)
	}
}

// While the replica is live and nothing is written, a row that rots is found all the same.
func TestScrubFindsWhatRots(t *testing.T) {
	d := newDesk(t, 2)
	d.cfg.ScrubRowsPerSecond = 4000
	d.fill(3000)
	r := d.open()
	d.sync(r)
	d.exec(`UPDATE orders SET value='rotten' WHERE key='key-001234'`)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for n := 0; r.Status().Repairs == 0; n++ { // writes go on meanwhile, before and behind the scrub
		if ctx.Err() != nil {
			t.Fatalf("not found: %+v", r.Status())
		}
		if key := (n * 37) % 3000; key != 1234 { // what is written anew rots no more
			d.put(fmt.Sprintf("key-%06d", key), fmt.Sprint(n))
			d.sync(r)
		}
	}
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 1 {
		t.Errorf("got %+v", s)
	}
}

// Diff names every row that differs, with both sides' sequences, and moves little.
func TestDiffNamesWhatDiffers(t *testing.T) {
	d := newDesk(t, 2)
	d.fill(20_000)
	r := d.open()
	d.sync(r)
	d.close(r)
	d.exec(`UPDATE orders SET value='forged' WHERE key='key-000001'; DELETE FROM orders WHERE key='key-000003'; INSERT INTO orders VALUES('phantom','x',NULL,77,1)`)
	d.put("key-000500", "newer")                               // the file is behind there, not wrong
	if err := d.p.Delete("orders", "key-000600"); err != nil { // and there
		t.Fatal(err)
	}
	d.expireAll(2)
	got := map[string]replica.RowDifference{}
	c, err := replica.Diff(t.Context(), d.cfg, d.path, func(one replica.RowDifference) error {
		got[one.Key] = one
		return nil
	})
	if err != nil || c.Differing != 1 || c.Missing != 1 || c.Extra != 1 || len(got) != 3 {
		t.Fatalf("got %+v, %v, %v", c, got, err)
	}
	if one := got["key-000001"]; one.Mine == 0 || one.Mine != one.Theirs {
		t.Errorf("changed: %+v", one)
	}
	if one := got["key-000003"]; one.Mine != 0 || one.Theirs == 0 {
		t.Errorf("missing: %+v", one)
	}
	if one := got["phantom"]; one.Mine != 77 || one.Theirs != 0 {
		t.Errorf("extra: %+v", one)
	}
	if c.MovedBytes > 8000 {
		t.Errorf("%d bytes were moved", c.MovedBytes)
	}
}

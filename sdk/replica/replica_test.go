package replica_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"go.uber.org/goleak"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/sdk/replica"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		crashChild()
		return
	}
	goleak.VerifyTestMain(m)
}

// deadline bounds every wait of a test.
const deadline = 30 * time.Second

// desk is one provider with one replica of its stream "orders".
type desk struct {
	t      *testing.T
	p      *sdktest.Provider
	path   string
	cfg    replica.Config
	mu     sync.Mutex
	events []replica.Event
	obeyed chan struct{} // gets one for every command that has ended
}

func newDesk(t *testing.T, partitions uint32) *desk {
	t.Helper()
	p, err := sdktest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.CreateStream(sdktest.Stream{Name: "orders", Keyed: true, Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, p: p, path: filepath.Join(t.TempDir(), "orders.db"), obeyed: make(chan struct{}, 100)}
	d.cfg = replica.Config{Stream: "orders", Path: d.path, Gateways: []string{p.Gateway()}, RetryFirst: time.Millisecond, RetryLongest: 20 * time.Millisecond,
		ScrubRowsPerSecond: -1, // what is found is found by what the test does
		Log:                slog.New(slog.NewTextHandler(testWriter{t}, nil)),
		OnEvent: func(e replica.Event) {
			d.mu.Lock()
			d.events = append(d.events, e)
			d.mu.Unlock()
			if e.Kind == replica.Ordered {
				d.obeyed <- struct{}{}
			}
		}}
	return d
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func (d *desk) open() *replica.Replica {
	d.t.Helper()
	r, err := replica.Open(d.t.Context(), d.cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = r.Close() })
	return r
}

func (d *desk) close(r *replica.Replica) {
	d.t.Helper()
	if err := r.Close(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) sync(r *replica.Replica) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), deadline)
	defer cancel()
	if err := r.WaitSynced(ctx); err != nil {
		d.t.Fatalf("not synced: %v\n%+v", err, r.Status())
	}
}

func (d *desk) put(key, value string) {
	d.t.Helper()
	if err := d.p.Put("orders", key, value); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) fill(n int) {
	d.t.Helper()
	records := make([]sdktest.Record, n)
	for i := range records {
		records[i] = sdktest.Record{Key: fmt.Sprintf("key-%06d", i), Value: fmt.Appendf(nil, `{"n":%d}`, i), Headers: map[string]string{"by": "fill"}}
	}
	if err := d.p.Publish("orders", records...); err != nil {
		d.t.Fatal(err)
	}
}

// happened counts the events of a kind.
func (d *desk) happened(k replica.EventKind) int { return len(d.told(k)) }

// told gives what the events of one kind have said.
func (d *desk) told(k replica.EventKind) (why []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Kind == k {
			why = append(why, e.Why)
		}
	}
	return why
}

// rows reads what a person with sqlite3 sees.
func (d *desk) rows() map[string]string {
	d.t.Helper()
	db := d.sqlite()
	defer db.Close()
	rows, err := db.Query(`SELECT key, value FROM orders`)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	got := map[string]string{}
	for rows.Next() {
		var key string
		var value []byte
		if err := rows.Scan(&key, &value); err != nil {
			d.t.Fatal(err)
		}
		got[key] = string(value)
	}
	if err := rows.Err(); err != nil {
		d.t.Fatal(err)
	}
	return got
}

func (d *desk) sqlite() *sql.DB {
	d.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+d.path+"?_busy_timeout=5000")
	if err != nil {
		d.t.Fatal(err)
	}
	return db
}

func (d *desk) exec(query string) {
	d.t.Helper()
	db := d.sqlite()
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		d.t.Fatal(err)
	}
}

// same fails unless the file has exactly the provider's state.
func (d *desk) same() {
	d.t.Helper()
	if got, want := d.rows(), d.p.State("orders"); !maps.Equal(got, want) {
		d.t.Fatalf("the file has %d rows, the provider %d, and they differ", len(got), len(want))
	}
}

func TestFollowsFromBootstrapToTail(t *testing.T) {
	for _, partitions := range []uint32{1, 5} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			d := newDesk(t, partitions)
			d.fill(3000)
			r := d.open()
			d.sync(r)
			d.same()
			d.put("key-000001", "changed")
			d.put("new", string([]byte{0, 255, 1}))
			d.put("empty", "")
			if err := d.p.Delete("orders", "key-000002"); err != nil {
				t.Fatal(err)
			}
			d.sync(r)
			d.same()
			var headers, kind string
			if err := r.DB().QueryRow(`SELECT headers, typeof(value) FROM orders WHERE key='key-000003'`).Scan(&headers, &kind); err != nil || headers != `{"by":"fill"}` || kind != "text" {
				t.Fatalf("got headers %s, a value of type %s, %v", headers, kind, err)
			}
			if err := r.DB().QueryRow(`SELECT typeof(value) FROM orders WHERE key='new'`).Scan(&kind); err != nil || kind != "blob" {
				t.Fatalf("got a binary value of type %s, %v", kind, err)
			}
			var n int
			if err := r.DB().QueryRow(`SELECT value->>'n' FROM orders WHERE key='key-000042'`).Scan(&n); err != nil || n != 42 {
				t.Fatalf("got %d, %v", n, err)
			}
			if s := r.Status(); s.Phase != replica.Live || s.Bootstraps != 1 || s.Mismatched != 0 || s.Verified == 0 {
				t.Fatalf("got %+v", s)
			}
			if _, err := r.DB().Exec(`DELETE FROM orders`); err == nil {
				t.Fatal("DB let a row be deleted")
			}
		})
	}
}

func TestResumesAtItsCursor(t *testing.T) {
	d := newDesk(t, 2)
	d.fill(100)
	r := d.open()
	d.sync(r)
	d.close(r)
	for p := range uint32(2) {
		if got, want := d.p.Cursor("orders", string(r.ConsumerID()), p), uint64(len(d.p.Log("orders", p))); got != want {
			t.Fatalf("partition %d: acknowledged %d of %d at Close", p, got, want)
		}
	}
	d.put("later", "1")
	r = d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 0 {
		t.Fatalf("a bootstrap where a replay was enough: %+v", s)
	}
}

// TestAcknowledgesWhileLive is I5.
func TestAcknowledgesWhileLive(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(10)
	r := d.open()
	d.sync(r)
	for i := range uint64(5) {
		d.put("a", fmt.Sprint(i))
		d.eventually(func() bool { return d.p.Cursor("orders", string(r.ConsumerID()), 0) == 11+i })
	}
}

func TestAnEmptyStreamIsSynced(t *testing.T) {
	d := newDesk(t, 3)
	r := d.open()
	d.sync(r)
	d.same()
}

func TestRowsChangedBehindItsBackAreHealed(t *testing.T) {
	for name, change := range map[string]string{
		"value":    `UPDATE orders SET value='forged' WHERE key='key-000007'`,
		"type":     `UPDATE orders SET value=CAST(value AS BLOB) WHERE key='key-000007'`,
		"deleted":  `DELETE FROM orders WHERE key='key-000007'`,
		"inserted": `INSERT INTO orders VALUES('phantom','x',NULL,1,1)`,
		"cursor":   `UPDATE _lockstep_lanes SET digest_count=digest_count+1`,
		"header":   `UPDATE orders SET headers=NULL WHERE key='key-000007'`,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, 1)
			d.fill(50)
			r := d.open()
			d.sync(r)
			d.close(r)
			d.exec(change)
			r = d.open()
			d.sync(r)
			d.same()
			if d.happened(replica.RowsChanged) != 1 || r.Status().Repairs != 1 || r.Status().Bootstraps != 0 {
				t.Fatalf("events %v, status %+v", d.events, r.Status())
			}
		})
	}
}

func TestRowChangedWhileLiveIsFoundWhenItIsWrittenAgain(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(50)
	r := d.open()
	d.sync(r)
	d.exec(`UPDATE orders SET value='forged' WHERE key='key-000007'`)
	d.put("key-000007", "true again")
	d.sync(r)
	d.same()
	if s := r.Status(); s.Mismatched != 1 || d.happened(replica.DigestMismatch) != 1 {
		t.Fatalf("got %+v", s)
	}
	if why := d.told(replica.MismatchExplained); len(why) != 1 || !strings.HasPrefix(why[0], "rows had been changed by somebody else") || r.Status().Bootstraps != 1 {
		t.Fatalf("the re-read rows explain the difference, so no bootstrap was needed: %v", d.events)
	}
	d.exec(`UPDATE orders SET value='forged' WHERE key='key-000008'`)
	d.exec(`UPDATE orders SET value='forged' WHERE key='key-000009'`)
	d.put("key-000008", "true again")
	d.sync(r)
	d.same() // the second forgery was found by re-reading, and a repair healed it
	if s := r.Status(); s.Bootstraps != 1 || s.Repairs != 1 {
		t.Fatalf("got %+v", s)
	}
}

func TestWrongDigestLeadsToRepair(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(50)
	r := d.open()
	d.sync(r)
	d.p.WrongDigests(1)
	d.put("a", "1")
	d.sync(r)
	d.same()
	if s := r.Status(); s.Mismatched != 1 || s.Bootstraps != 1 || s.Repairs != 1 {
		t.Fatalf("got %+v", s)
	}
}

func TestLateDigestsAreCompared(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(10)
	r := d.open()
	d.sync(r)
	d.p.WithholdDigests(true)
	for i := range 20 {
		d.put("a", fmt.Sprint(i))
	}
	d.eventually(func() bool { return r.Status().Lanes[0].Cursor.Sequence == 30 })
	before := r.Status()
	if before.Lanes[0].VerifiedAt.Sequence != 10 {
		t.Fatalf("verified without a digest: %+v", before)
	}
	d.p.Heartbeat()
	d.sync(r)
	if s := r.Status(); s.Lanes[0].VerifiedAt.Sequence != 30 || s.Bootstraps != 1 {
		t.Fatalf("got %+v", s)
	}
}

// eventually waits for what happens without a sign to wait for; bounded by deadline.
func (d *desk) eventually(holds func() bool) {
	d.t.Helper()
	end := time.NewTimer(deadline)
	defer end.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-end.C:
			d.t.Fatal("it did not happen")
		}
	}
}

func TestGapIsReadFromTheLog(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(10)
	r := d.open()
	d.sync(r)
	d.p.Gap(1)
	d.put("dropped", "1")
	d.put("arrives", "2")
	d.sync(r)
	d.same()
	if s := r.Status(); s.Gaps != 1 || s.Bootstraps != 1 || s.Mismatched != 0 {
		t.Fatalf("got %+v", s)
	}
}

func TestCorruptBatchIsReadAgain(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(10)
	r := d.open()
	d.sync(r)
	d.p.Corrupt(sdktest.Batches, 1)
	d.put("a", "1")
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 1 || s.Connections != 2 {
		t.Fatalf("got %+v", s)
	}
}

func TestExpiryIsBridgedByChanges(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(10)
	r := d.open()
	d.sync(r)
	d.close(r)
	for i := range 20 {
		d.put(fmt.Sprint("later-", i), "x")
	}
	if err := d.p.Expire("orders", 0, 25); err != nil {
		t.Fatal(err)
	}
	r = d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 0 || s.ChangesTaken != 1 || d.happened(replica.ResyncNeeded) != 1 {
		t.Fatalf("got %+v, %v", s, d.events)
	}
}

func TestCutHistoryLeadsToRepair(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(10)
	d.put("gone", "after the cut")
	r := d.open()
	d.sync(r)
	if err := d.p.RotateEpoch("orders", 0, 10); err != nil {
		t.Fatal(err)
	}
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 1 || s.Repairs != 1 || s.Lanes[0].Cursor.Epoch != 2 {
		t.Fatalf("got %+v", s)
	}
}

func TestBootstrapThatLostARowIsNotShown(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(100)
	d.p.BootstrapLosesRow()
	r := d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 1 {
		t.Fatalf("got %+v", s)
	}
}

func TestReconnects(t *testing.T) {
	d := newDesk(t, 3)
	d.fill(30)
	r := d.open()
	d.sync(r)
	for i := range 5 {
		d.p.Disconnect()
		d.put(fmt.Sprint("after-", i), "x")
		d.sync(r)
		d.same()
	}
	if s := r.Status(); s.Bootstraps != 1 || s.Connections < 2 {
		t.Fatalf("got %+v", s)
	}
}

func TestReadersFollowTheSwap(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(100)
	r := d.open()
	if err := r.DB().Ping(); err == nil && r.Status().Bootstraps == 0 {
		t.Fatal("a replica without rows let itself be read")
	}
	d.sync(r)
	old, err := r.DB().BeginTx(t.Context(), &sql.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	count := func(q interface{ QueryRow(string, ...any) *sql.Row }) (n int) {
		if err := q.QueryRow(`SELECT count(*) FROM orders`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(old); n != 100 {
		t.Fatalf("got %d rows", n)
	}
	d.put("one more", "x")
	d.p.WrongDigests(1)
	d.put("two more", "x")
	d.sync(r)
	if n := count(r.DB()); n != 102 {
		t.Fatalf("new queries see %d rows", n)
	}
	if n := count(old); n != 100 {
		t.Fatalf("the reader of the old generation sees %d rows", n)
	}
	if err := old.Rollback(); err != nil {
		t.Fatal(err)
	}
	d.close(r)
	r = d.open()
	d.sync(r)
	files, err := filepath.Glob(d.path + ".lockstep/*.db")
	if err != nil || len(files) != 1 {
		t.Fatalf("old generations are still there: %v, %v", files, err)
	}
}

func TestUsersObjectsSurviveABootstrap(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(20)
	rebuilt := 0
	d.cfg.Rebuild = func(ctx context.Context, tx *sql.Tx) error {
		rebuilt++
		_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS totals(n INTEGER); DELETE FROM totals; INSERT INTO totals SELECT count(*) FROM orders`)
		return err
	}
	r := d.open()
	d.sync(r)
	d.exec(`CREATE TABLE notes(id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT, twice TEXT GENERATED ALWAYS AS (text||text)); INSERT INTO notes(text) VALUES('kept'),('also'); DELETE FROM notes WHERE id=2;
		CREATE INDEX by_n ON orders(value->>'n'); CREATE VIEW small AS SELECT key FROM orders WHERE value->>'n' < 3; CREATE TABLE seen(key TEXT);
		CREATE TRIGGER on_new AFTER INSERT ON orders BEGIN INSERT INTO seen VALUES(new.key); END`)
	d.put("x", "{}")
	d.sync(r)
	d.exec(`DELETE FROM seen`)
	d.order(r, &deliveryv1.Reset{CommandId: "anew", Action: consumerv1.Action_ACTION_FULL})
	d.sync(r)
	d.put("fires", "{}")
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 2 || rebuilt != 2 {
		t.Fatalf("rebuilt %d times, %+v", rebuilt, s)
	}
	var text, seen string
	var small, index, total int
	err := errors.Join(
		r.DB().QueryRow(`SELECT text||twice FROM notes`).Scan(&text),
		r.DB().QueryRow(`SELECT count(*) FROM small`).Scan(&small),
		r.DB().QueryRow(`SELECT count(*) FROM sqlite_master WHERE name='by_n'`).Scan(&index),
		r.DB().QueryRow(`SELECT group_concat(key) FROM seen`).Scan(&seen),
		r.DB().QueryRow(`SELECT n FROM totals`).Scan(&total))
	if err != nil || text != "keptkeptkept" || small != 3 || index != 1 || seen != "fires" || total != 21 {
		t.Fatalf("got %q, %d, %d, %q, %d, %v", text, small, index, seen, total, err)
	}
	d.exec(`INSERT INTO notes(text) VALUES('third')`)
	var id int
	if err := r.DB().QueryRow(`SELECT max(id) FROM notes`).Scan(&id); err != nil || id != 3 {
		t.Fatalf("AUTOINCREMENT began anew: %d, %v", id, err)
	}
}

func TestApplyIsInTheSameTransaction(t *testing.T) {
	d := newDesk(t, 1)
	failing := true
	d.cfg.Rebuild = func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS history(seq INTEGER PRIMARY KEY, key TEXT)`)
		return err
	}
	d.cfg.Apply = func(ctx context.Context, tx *sql.Tx, b replica.Batch) error {
		for _, c := range b.Changes {
			if _, err := tx.ExecContext(ctx, `INSERT INTO history VALUES(?,?)`, int64(c.Sequence), c.Key); err != nil {
				return err
			}
		}
		if failing {
			failing = false
			return errors.New("the test asked for this")
		}
		return nil
	}
	r := d.open()
	d.sync(r)
	for i := range 50 {
		d.put(fmt.Sprint("k", i%7), fmt.Sprint(i))
	}
	d.sync(r)
	d.same()
	var n, last int
	if err := r.DB().QueryRow(`SELECT count(*), max(seq) FROM history`).Scan(&n, &last); err != nil || n != 50 || last != 50 {
		t.Fatalf("applied %d times, up to %d, %v", n, last, err)
	}
}

func TestChanges(t *testing.T) {
	d := newDesk(t, 1)
	r := d.open()
	d.sync(r)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	changes := r.Changes(ctx)
	d.put("a", "1")
	d.put("a", "2")
	if err := d.p.Delete("orders", "a"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for c, err := range changes {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d %s=%s @%d", c.Kind, c.Key, c.Value, c.Sequence))
		if len(got) == 3 {
			break
		}
	}
	want := []string{"1 a=1 @1", "1 a=2 @2", "2 a= @3"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	d.close(r)
	for _, err := range r.Changes(ctx) {
		if err == nil {
			t.Fatal("a closed replica told of a change")
		}
	}
}

func TestRefusals(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(10)
	check := func(name string, err error, want fault.Reason) {
		t.Helper()
		if fault.ReasonOf(err) != want {
			t.Fatalf("%s: got %v (%s), want %s", name, err, fault.ReasonOf(err), want)
		}
	}
	r := d.open()
	d.sync(r)
	_, err := replica.Open(t.Context(), d.cfg)
	check("a second writer", err, fault.InUse)
	d.close(r)

	other := d.cfg
	other.Stream = "invoices"
	_, err = replica.Open(t.Context(), other)
	check("another stream's file", err, fault.ForeignData)

	junk := filepath.Join(t.TempDir(), "junk.db")
	content := []byte("this is not a database, and long enough to have a header of one hundred bytes if it were, which it is not at all.")
	if err := os.WriteFile(junk, content, 0o600); err != nil {
		t.Fatal(err)
	}
	plain := d.cfg
	plain.Path = junk
	_, err = replica.Open(t.Context(), plain)
	check("not a database", err, fault.ForeignData)
	if after, err := os.ReadFile(junk); err != nil || string(after) != string(content) {
		t.Fatalf("the foreign file was changed: %q, %v", after, err)
	}
	if _, err := os.Stat(junk + ".lockstep"); err == nil {
		t.Fatal("a directory was left beside a refused file")
	}

	d.exec(`UPDATE _lockstep_meta SET value='99' WHERE name='format'`)
	_, err = replica.Open(t.Context(), d.cfg)
	check("a newer format", err, fault.UnsupportedVersion)
	d.exec(`UPDATE _lockstep_meta SET value='1' WHERE name='format'`)

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	unknown := d.cfg
	unknown.Stream, unknown.Path = "nowhere", filepath.Join(t.TempDir(), "n.db")
	u, err := replica.Open(ctx, unknown)
	if err != nil {
		t.Fatal(err)
	}
	check("an unknown stream", u.WaitSynced(ctx), fault.UnknownStream)
	d.close(u)

	if err := d.p.DeleteStream("orders"); err != nil {
		t.Fatal(err)
	}
	if err := d.p.CreateStream(sdktest.Stream{Name: "orders", Keyed: true}); err != nil {
		t.Fatal(err)
	}
	before := len(d.rows())
	r = d.open()
	check("a stream made anew", r.WaitSynced(ctx), fault.ForeignData)
	d.close(r)
	if len(d.rows()) != before {
		t.Fatal("the refused file was changed")
	}
}

func TestFenced(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(10)
	r := d.open()
	d.sync(r)
	second := d.cfg
	second.ConsumerID, second.Path = string(r.ConsumerID()), filepath.Join(t.TempDir(), "b.db")
	r2, err := replica.Open(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	d.sync(r2)
	d.eventually(func() bool { return d.happened(replica.Fenced) == 1 })
	if err := r.WaitSynced(t.Context()); fault.ReasonOf(err) != fault.ConsumerFenced {
		t.Fatalf("got %v", err)
	}
}

func TestVerify(t *testing.T) {
	d := newDesk(t, 2)
	d.fill(500)
	r := d.open()
	d.sync(r)
	verify := func() replica.Comparison {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		c, err := replica.Verify(ctx, d.cfg, d.path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := verify(); c.Verdict != replica.Equal || c.Rows != 500 {
		t.Fatalf("live and untouched: %+v", c)
	}
	d.close(r)
	if c := verify(); c.Verdict != replica.Equal {
		t.Fatalf("at rest: %+v", c)
	}
	d.put("key-000003", "changed behind the cursor")
	d.put("brand new", "x")
	if err := d.p.Delete("orders", "key-000004"); err != nil {
		t.Fatal(err)
	}
	if c := verify(); c.Verdict != replica.Equal {
		t.Fatalf("behind, but right: %+v", c)
	}
	d.exec(`UPDATE orders SET value='forged' WHERE key='key-000007'; DELETE FROM orders WHERE key='key-000008'; INSERT INTO orders VALUES('phantom','x',NULL,1,1)`)
	if c := verify(); c.Verdict != replica.Different || c.Differing != 1 || c.Missing != 1 || c.Extra != 1 || len(c.Examples) != 3 {
		t.Fatalf("forged: %+v", c)
	}
	r = d.open()
	d.sync(r)
	if c := verify(); c.Verdict != replica.Equal {
		t.Fatalf("healed: %+v", c)
	}
	d.close(r)
	if err := d.p.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := replica.Verify(t.Context(), d.cfg, d.path); err == nil || c.Verdict != replica.Unknown {
		t.Fatalf("without a provider: %+v, %v", c, err)
	}
}

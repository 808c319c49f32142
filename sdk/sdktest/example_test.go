package sdktest_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lockstep-mq/lockstep/sdk/replica"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

// applied is an Apply function to test: it keeps the sum of all amounts in a table of its own. An amount that was applied twice, or not at
// all, would show.
func applied(ctx context.Context, tx *sql.Tx, batch replica.Batch) error {
	for _, c := range batch.Changes {
		amount := 0
		if c.Kind == replica.Put {
			var err error
			if amount, err = strconv.Atoi(string(c.Value)); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `UPDATE total SET amount = amount + ?2 - coalesce((SELECT amount FROM parts WHERE key = ?1), 0)`, c.Key, amount); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO parts VALUES(?1, ?2) ON CONFLICT DO UPDATE SET amount = ?2`, c.Key, amount); err != nil {
			return err
		}
	}
	return nil
}

// rebuilt computes the same from all rows, for a bootstrap.
func rebuilt(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS total; DROP TABLE IF EXISTS parts; CREATE TABLE parts(key TEXT PRIMARY KEY, amount INTEGER);
		INSERT INTO parts SELECT key, CAST(CAST(value AS TEXT) AS INTEGER) FROM orders; CREATE TABLE total AS SELECT coalesce(sum(amount), 0) AS amount FROM parts`)
	return err
}

// A user's own Apply function meets every fault, and its table stays what the rows say.
func Example() {
	ctx := context.Background()
	for _, fault := range []struct {
		name string
		ask  func(*sdktest.Provider) error
	}{
		{"gap", func(p *sdktest.Provider) error { p.Gap(2); return nil }},
		{"corrupt", func(p *sdktest.Provider) error { p.Corrupt(sdktest.Batches, 2); return nil }},
		{"expire", func(p *sdktest.Provider) error { return p.Expire("orders", 0, p.Tail("orders", 0)) }},
		{"disconnect", func(p *sdktest.Provider) error { time.AfterFunc(5*time.Millisecond, p.Disconnect); return nil }},
		{"slow", func(p *sdktest.Provider) error { p.Slow(time.Millisecond); return nil }},
		{"rotate epoch", func(p *sdktest.Provider) error { return p.RotateEpoch("orders", 0, 7) }},
	} {
		total, rows, err := meet(ctx, fault.ask)
		fmt.Println(fault.name, total == rows, err)
	}
	// Output:
	// gap true <nil>
	// corrupt true <nil>
	// expire true <nil>
	// disconnect true <nil>
	// slow true <nil>
	// rotate epoch true <nil>
}

// meet has a replica miss ten records and come back into a fault, and gives what Apply has kept and what the rows say.
func meet(ctx context.Context, ask func(*sdktest.Provider) error) (total, rows int, err error) {
	provider, err := sdktest.New()
	if err != nil {
		return 0, 0, err
	}
	defer provider.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	if err := provider.CreateStream(sdktest.Stream{Name: "orders", Keyed: true}); err != nil {
		return 0, 0, err
	}
	cfg := replica.Config{Stream: "orders", Path: filepath.Join(dir, "orders.db"), Gateways: []string{provider.Gateway()}, Apply: applied, Rebuild: rebuilt, RetryFirst: time.Millisecond}
	for round := range 2 {
		for i := range 10 {
			if err := provider.Put("orders", fmt.Sprint("o-", i%7), fmt.Sprint(round*100+i)); err != nil {
				return 0, 0, err
			}
		}
		if round == 1 {
			if err := ask(provider); err != nil {
				return 0, 0, err
			}
		}
		r, err := replica.Open(ctx, cfg)
		if err != nil {
			return 0, 0, err
		}
		if err := r.WaitSynced(ctx); err != nil {
			return 0, 0, err
		}
		err = r.DB().QueryRow(`SELECT (SELECT amount FROM total), sum(CAST(CAST(value AS TEXT) AS INTEGER)) FROM orders`).Scan(&total, &rows)
		if err != nil {
			return 0, 0, err
		}
		if err := r.Close(); err != nil {
			return 0, 0, err
		}
	}
	return total, rows, nil
}

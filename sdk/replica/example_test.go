package replica_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lockstep-mq/lockstep/sdk/replica"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

func Example() {
	ctx := context.Background()
	provider, err := sdktest.New() // in a program: the address of a gateway, such as tcp://127.0.0.1:7410
	if err != nil {
		panic(err)
	}
	defer provider.Close()
	if err := provider.CreateStream(sdktest.Stream{Name: "orders", Keyed: true}); err != nil {
		panic(err)
	}
	if err := provider.Put("orders", "o-1", `{"total": 3}`); err != nil {
		panic(err)
	}
	if err := provider.Put("orders", "o-2", `{"total": 4}`); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	r, err := replica.Open(ctx, replica.Config{Stream: "orders", Path: filepath.Join(dir, "orders.db"), Gateways: []string{provider.Gateway()}})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	if err := r.WaitSynced(ctx); err != nil { // equal to the provider, at the tail of this moment or later
		panic(err)
	}
	var total int
	if err := r.DB().QueryRow(`SELECT sum(value->>'total') FROM orders`).Scan(&total); err != nil {
		panic(err)
	}
	fmt.Println("total", total)
	// Output: total 7
}

// Keep a table of your own in step with the rows: Apply writes it in the same transaction, Rebuild computes it anew when a bootstrap
// builds a new file.
func ExampleConfig_apply() {
	ctx := context.Background()
	provider, err := sdktest.New()
	if err != nil {
		panic(err)
	}
	defer provider.Close()
	if err := provider.CreateStream(sdktest.Stream{Name: "orders", Keyed: true}); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	r, err := replica.Open(ctx, replica.Config{
		Stream: "orders", Path: filepath.Join(dir, "orders.db"), Gateways: []string{provider.Gateway()},
		Rebuild: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS touched; CREATE TABLE touched(key TEXT PRIMARY KEY, times INTEGER);
				INSERT INTO touched SELECT key, 1 FROM orders`)
			return err
		},
		Apply: func(ctx context.Context, tx *sql.Tx, batch replica.Batch) error {
			for _, c := range batch.Changes {
				if _, err := tx.ExecContext(ctx, `INSERT INTO touched VALUES(?, 1) ON CONFLICT DO UPDATE SET times=times+1`, c.Key); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	if err := r.WaitSynced(ctx); err != nil {
		panic(err)
	}
	for range 3 {
		if err := provider.Put("orders", "o-1", `{}`); err != nil {
			panic(err)
		}
	}
	if err := r.WaitSynced(ctx); err != nil {
		panic(err)
	}
	var times int
	if err := r.DB().QueryRow(`SELECT times FROM touched WHERE key='o-1'`).Scan(&times); err != nil {
		panic(err)
	}
	fmt.Println("touched", times)
	// Output: touched 3
}

package replica_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/sdk/replica"
)

// generation is the file the link names.
func (d *desk) generation() string {
	d.t.Helper()
	file, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	return file
}

func TestADamagedFileIsReplaced(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to float64 // of the file's length
	}{{"in the middle", 0.3, 0.9}, {"nearly everything", 0.02, 1}} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, 1)
			d.fill(2000)
			r := d.open()
			d.sync(r)
			d.close(r)
			file := d.generation()
			bytes, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i := int(c.from * float64(len(bytes))); i < int(c.to*float64(len(bytes))); i++ {
				bytes[i] = 0xA5
			}
			if err := os.WriteFile(file, bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err = replica.Open(t.Context(), d.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			d.sync(r)
			d.same()
			if d.generation() == file {
				t.Fatal("the damaged generation is still in place")
			}
		})
	}
}

func TestWhatCannotBeCarriedOverIsToldAndKept(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(5)
	r := d.open()
	d.sync(r)
	d.exec(`CREATE TABLE odd(n CHECK(n>0)); PRAGMA ignore_check_constraints=1; INSERT INTO odd VALUES(-1); CREATE TABLE even(n); INSERT INTO even VALUES(2)`)
	before := d.generation()
	d.put("x", "1")
	d.order(r, &deliveryv1.Reset{CommandId: "anew", Action: consumerv1.Action_ACTION_FULL})
	d.sync(r)
	d.same()
	if d.happened(replica.ObjectsLost) != 1 {
		t.Fatalf("events: %v", d.events)
	}
	for _, e := range d.events {
		if e.Kind == replica.ObjectsLost && (!strings.Contains(e.Why, `"odd"`) || strings.Contains(e.Why, `"even"`)) {
			t.Fatalf("told %q", e.Why)
		}
	}
	d.close(r)
	r = d.open()
	d.sync(r)
	if _, err := os.Stat(before); err != nil {
		t.Fatalf("the generation with what was lost is gone: %v", err)
	}
	var n int
	if err := r.DB().QueryRow(`SELECT n FROM even`).Scan(&n); err != nil || n != 2 {
		t.Fatalf("got %d, %v", n, err)
	}
}

func TestAnOldGenerationGoesWithItsLastReader(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(100)
	r := d.open()
	d.sync(r)
	before := d.generation()
	db := d.sqlite()
	defer db.Close()
	reader, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRow(`SELECT count(*) FROM orders`).Scan(&n); err != nil || n != 100 {
		t.Fatalf("%d rows, %v", n, err)
	}
	d.order(r, &deliveryv1.Reset{CommandId: "full", Action: consumerv1.Action_ACTION_FULL})
	if d.generation() == before {
		t.Fatal("no new generation was made")
	}
	if _, err := os.Stat(before); err != nil {
		t.Fatalf("the generation that is being read: %v", err)
	}
	if err := errors.Join(reader.Rollback(), db.Close()); err != nil {
		t.Fatal(err)
	}
	d.eventually(func() bool {
		_, err := os.Stat(before)
		return errors.Is(err, os.ErrNotExist)
	})
}

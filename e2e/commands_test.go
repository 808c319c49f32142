package e2e

import (
	"context"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/lockstep-mq/lockstep/sdk/replica"
)

// TestCommandedRepair damages a live replica that does not look by itself, and has it looked at and healed by command.
func TestCommandedRepair(t *testing.T) {
	dir := t.TempDir()
	h := newHouse(t, filepath.Join(dir, "data"))
	publishLines(t, h, "orders", "id", []byte(`{"id":"a","n":1}
{"id":"b","n":2}
{"id":"c","n":3}
`))
	want := map[string]string{"a": `{"id":"a","n":1}`, "b": `{"id":"b","n":2}`, "c": `{"id":"c","n":3}`}
	file := filepath.Join(dir, "r.db")
	r, err := replica.Open(t.Context(), replica.Config{Stream: "orders", Path: file, Gateways: []string{h.at["gateway"]}, ConsumerID: "copy", ScrubRowsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.WaitSynced(ctx); err != nil {
		t.Fatal(err)
	}
	damage := func() {
		change(t, file, "UPDATE orders SET value = '{}' WHERE key = 'b'")
		change(t, file, "DELETE FROM orders WHERE key = 'c'")
		change(t, file, "INSERT INTO orders SELECT 'z', value, headers, seq, time FROM orders WHERE key = 'a'")
	}
	command := func(outcome string, args ...string) {
		t.Helper()
		said := h.must(t, append([]string{"reset", "orders", "--consumer", "copy", "--wait", "--timeout", "30s"}, args...)...).stdout
		if !regexp.MustCompile(outcome).MatchString(said) {
			t.Fatalf("%v: %q was expected:\n%s", args, outcome, said)
		}
	}
	const three, none = ` +done +repair +1 +1 +1 `, ` +done +repair +0 +0 +0 `

	damage()
	command(`repair \(dry run\)`+three, "repair", "--dry-run")
	if got, err := query(file, "SELECT value FROM orders WHERE key = 'b'"); err != nil || got != "{}\n" {
		t.Fatalf("after a dry run the row has %q (%v)", got, err)
	}
	command(`heal +repair`+three, "repair", "--id", "heal")
	compareRows(t, file, "orders", want)

	damage()
	command(`heal +repair`+three, "repair", "--id", "heal") // was done: not done again
	if got, err := query(file, "SELECT count(*) FROM orders WHERE key = 'z'"); err != nil || got != "1\n" {
		t.Fatalf("a command was obeyed twice (%q, %v)", got, err)
	}
	command(`verify`+three, "verify") // and what a verification finds is healed
	command(`verify`+none, "verify")
	compareRows(t, file, "orders", want)
	h.must(t, "verify", "orders", file)
	if s := r.Status(); s.Bootstraps != 1 || s.Repairs != 2 {
		t.Fatalf("%d bootstraps and %d repairs", s.Bootstraps, s.Repairs)
	}
}

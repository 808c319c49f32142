package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

func count(ctx context.Context, r *Reader) (n int, err error) {
	err = r.DB().QueryRowContext(ctx, "SELECT count(*) FROM "+quoted(string(testMeta.Stream))).Scan(&n)
	return n, err
}

// TestQueriesThatWait is Hold: they get the next generation, or the end of their context, or of the Reader.
func TestQueriesThatWait(t *testing.T) {
	p := lockedPlace(t)
	r := NewReader()
	r.Follow(generation(t, p, 10))
	if n, err := count(t.Context(), r); n != 10 {
		t.Fatal(n, err)
	}
	r.Hold()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := count(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a query while held: %v", err)
	}
	type answer struct {
		n   int
		err error
	}
	answers := make(chan answer)
	ask := func() {
		n, err := count(context.Background(), r)
		answers <- answer{n, err}
	}
	go ask()
	r.Hold() // again: those that wait go on waiting
	r.Follow(generation(t, p, 20))
	if a := <-answers; a.n != 20 {
		t.Fatal(a)
	}
	r.Hold()
	go ask()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if a := <-answers; a.err == nil {
		t.Fatal("a query was answered after Close")
	}
}

// TestQueriesThatAreRefused is Refuse, and a Reader of nothing.
func TestQueriesThatAreRefused(t *testing.T) {
	p := lockedPlace(t)
	r := NewReader()
	defer r.Close()
	for _, n := range []int{10, 20} {
		if _, err := count(t.Context(), r); !errors.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
		r.Follow(generation(t, p, n))
		if got, err := count(t.Context(), r); got != n {
			t.Fatal(got, err)
		}
		r.Refuse()
	}
}

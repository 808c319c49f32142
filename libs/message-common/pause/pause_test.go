package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPausesGrowWithinBounds(t *testing.T) {
	p := New(Schedule{First: 10 * time.Millisecond, Longest: 100 * time.Millisecond})
	top := 10 * time.Millisecond
	for range 20 {
		if d := p.Next(); d < top/2 || d > top {
			t.Fatalf("a pause of %v where %v to %v belongs", d, top/2, top)
		}
		top = min(time.Duration(float64(top)*growth), 100*time.Millisecond)
	}
	p.Reset()
	if d := p.Next(); d > 10*time.Millisecond {
		t.Fatalf("a pause of %v after Reset", d)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := Wait(ctx, time.Minute); err == nil || time.Since(began) != time.Second {
			t.Fatalf("waited %v, %v", time.Since(began), err)
		}
		if err := Wait(t.Context(), time.Minute); err != nil || time.Since(began) != 61*time.Second {
			t.Fatalf("waited %v, %v", time.Since(began), err)
		}
	})
}

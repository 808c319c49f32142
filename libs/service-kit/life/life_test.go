package life_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
)

var quiet = slog.New(slog.DiscardHandler)

// waiting returns a part that runs until it is stopped and notes it.
func waiting(name string, mu *sync.Mutex, stopped *[]string) life.Part {
	return life.Part{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		mu.Lock()
		defer mu.Unlock()
		*stopped = append(*stopped, name)
		return ctx.Err()
	}}
}

func TestPartsStopInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var stopped []string
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			result <- life.Run(ctx, quiet, waiting("store", &mu, &stopped), waiting("server", &mu, &stopped), waiting("door", &mu, &stopped))
		}()
		synctest.Wait()
		cancel()
		if err := <-result; err != nil {
			t.Fatalf("an orderly end gave %v", err)
		}
		if want := []string{"door", "server", "store"}; !slices.Equal(stopped, want) {
			t.Fatalf("stopped %v, want %v", stopped, want)
		}
	})
}

func TestFirstFailureStopsAllAndIsReturned(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(context.Context) error
		want string
	}{
		{"error", func(context.Context) error { return errors.New("disk gone") }, "bad: disk gone"},
		{"panic", func(context.Context) error { panic("boom") }, "bad: panic: boom"},
		{"unasked end", func(context.Context) error { return nil }, "bad: ended without being asked to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var stopped []string
				err := life.Run(t.Context(), quiet, waiting("a", &mu, &stopped), life.Part{Name: "bad", Run: c.run}, waiting("b", &mu, &stopped))
				if err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Fatalf("got %v, want %q", err, c.want)
				}
				if len(stopped) != 2 {
					t.Fatalf("only %v were stopped", stopped)
				}
			})
		})
	}
}

package crew_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/crew"
)

func TestInOrderAndAtMostSoMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var began []int
		now, most := 0, 0
		c := crew.New(3, func(n int) {
			mu.Lock()
			began = append(began, n)
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
		})
		for n := range 30 {
			c.Put(n)
			synctest.Wait() // so that each has begun, or waits
		}
		time.Sleep(time.Minute)
		synctest.Wait() // the workers have gone: more jobs need new ones
		c.Put(30)
		time.Sleep(time.Minute)
		c.Close()
		if most != 3 || len(began) != 31 || !slices.IsSorted(began[:3]) || began[30] != 30 {
			t.Fatalf("%d at once, begun: %v", most, began)
		}
	})
}

func TestCloseDropsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := 0
		c := crew.New(1, func(int) {
			time.Sleep(time.Second)
			done++
		})
		c.Put(1)
		c.Put(2)
		synctest.Wait()
		c.Close()
		c.Put(3)
		time.Sleep(time.Minute)
		if done != 1 {
			t.Fatalf("%d jobs were done; one was under way at Close", done)
		}
	})
}

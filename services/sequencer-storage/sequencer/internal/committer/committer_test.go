package committer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/committer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is an environment whose fsync takes a second, and which checks the order of everything.
type disk struct {
	mu        sync.Mutex
	prepared  []int
	groups    []int // sizes, as prepared
	written   int   // items written
	durable   int   // items covered by a finished sync
	published []int
	failed    map[int]error
	syncs     int
	breakAt   int // the sync that fails, 0 for none
	writeFail error
	nothing   func(int) bool // items that need no write
}

func (d *disk) env() committer.Env[int] {
	return committer.Env[int]{
		Prepare: func(group []int) bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.prepared = append(d.prepared, group...)
			d.groups = append(d.groups, len(group))
			if d.nothing != nil && !slices.ContainsFunc(group, func(i int) bool { return !d.nothing(i) }) {
				return false
			}
			return true
		},
		Write: func() error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.written = len(d.prepared)
			return d.writeFail
		},
		Sync: func() error {
			d.mu.Lock()
			d.syncs++
			covered, n := d.written, d.syncs
			d.mu.Unlock()
			time.Sleep(time.Second)
			if n == d.breakAt {
				return errors.New("the disk said no")
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.durable = covered
			return nil
		},
		Publish: func(group []int) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.published = append(d.published, group...)
			if d.nothing == nil && len(d.published) > d.durable {
				panic("published before its fsync")
			}
		},
		Fail: func(i int, err error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.failed == nil {
				d.failed = map[int]error{}
			}
			if d.failed[i] != nil || slices.Contains(d.published, i) {
				panic("answered twice")
			}
			d.failed[i] = err
		},
	}
}

func TestGroupsGrowWhileTheDiskIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		c := committer.New(d.env())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		submit := func(from, until int) {
			for i := from; i < until; i++ {
				if err := c.Submit(i, 100); err != nil {
					t.Error(err)
				}
			}
		}
		submit(0, 1)
		synctest.Wait() // 0 is in its fsync
		submit(1, 50)
		synctest.Wait()
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		want := make([]int, 50)
		for i := range want {
			want[i] = i
		}
		d.mu.Lock()
		if !slices.Equal(d.published, want) || !slices.Equal(d.prepared, want) { // I1
			t.Errorf("published %v", d.published)
		}
		if d.syncs > 2 {
			t.Errorf("%d syncs for 50 items that came during one", d.syncs)
		}
		d.mu.Unlock()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := c.Submit(99, 1); !errors.Is(err, fault.Unavailable) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestGroupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		c := committer.New(d.env())
		for i := range 10 { // nothing runs yet
			if err := c.Submit(i, 300<<10); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Submit(10, 2<<20); err != nil { // larger than a group: a group of its own
			t.Fatal(err)
		}
		if err := c.Submit(11, committer.MaxPendingBytes); !errors.Is(err, fault.Overloaded) { // I4
			t.Fatalf("got %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		synctest.Wait()
		d.mu.Lock()
		// One group in fsync, three written behind it, one in the gatherer's hands.
		if len(d.groups) > committer.MaxGroups+1 {
			t.Errorf("%d groups in flight", len(d.groups))
		}
		d.mu.Unlock()
		time.Sleep(10 * time.Second)
		d.mu.Lock()
		if !slices.Equal(d.groups, []int{3, 3, 3, 1, 1}) || len(d.published) != 11 {
			t.Errorf("groups %v, %d published", d.groups, len(d.published))
		}
		d.mu.Unlock()
		stop()
		<-ended
	})
}

func TestFailedSyncEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{breakAt: 2}
		c := committer.New(d.env())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(t.Context()) }()
		for i := range 5 {
			if err := c.Submit(i, committer.GroupBytes); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		err := <-ended
		if err == nil || err.Error() != "the disk said no" {
			t.Fatalf("ended with %v", err)
		}
		if len(d.published)+len(d.failed) != 5 || len(d.published) != 1 { // I3
			t.Fatalf("published %v, failed %v", d.published, d.failed)
		}
		for i, err := range d.failed {
			if i < len(d.prepared) && !errors.Is(err, fault.UnknownOutcome) {
				t.Errorf("item %d was written and is answered %v", i, err)
			}
		}
	})
}

func TestFailedWriteIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{writeFail: errors.New("no")}
		c := committer.New(d.env())
		if err := c.Submit(0, 1); err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); err == nil {
			t.Fatal("Run went on after a failed write")
		}
		if !errors.Is(d.failed[0], fault.UnknownOutcome) {
			t.Fatalf("answered %v", d.failed[0])
		}
	})
}

func TestAnswersWithoutAWriteWaitForThoseBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{nothing: func(i int) bool { return i == 1 }}
		c := committer.New(d.env())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		for i := range 2 { // 1 is a duplicate of 0, say: its answer must not come before 0 is durable
			if err := c.Submit(i, 1); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		d.mu.Lock()
		if len(d.published) != 0 {
			t.Errorf("published %v during the fsync", d.published)
		}
		d.mu.Unlock()
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		d.mu.Lock()
		if !slices.Equal(d.published, []int{0, 1}) || d.syncs != 1 {
			t.Errorf("published %v after %d syncs", d.published, d.syncs)
		}
		d.mu.Unlock()
		stop()
		<-ended
	})
}

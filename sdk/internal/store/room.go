package store

import (
	"fmt"
	"syscall"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/sdk/internal/pages"
)

// marginBytes is what stays free beside a bootstrap, for the write-ahead log of the generation in use, and whoever else writes.
const marginBytes = 64 << 20

// Need is what a bootstrap will write.
type Need struct {
	// Spool is how many bytes of chunks are still to come.
	Spool uint64
	// Rows and RawBytes: how many rows the new generation will have, and how long they are.
	Rows, RawBytes uint64
}

// Total is the room it takes, about; what is carried over of the user's own comes on top.
func (n Need) Total() uint64 { return n.Spool + pages.Estimate(n.Rows, n.RawBytes) + marginBytes }

// CheckRoom refuses a bootstrap that the disk has no room for, before it begins. Fault: DiskFull, with details needed and free in bytes.
func (p Place) CheckRoom(n Need) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(p.dir, &s); err != nil {
		return nil //nolint:nilerr // a file system that does not say how full it is, tells when it is
	}
	return n.fits(p.dir, uint64(s.Bavail)*uint64(s.Bsize)) //nolint:unconvert // the types differ between systems
}

func (n Need) fits(dir string, free uint64) error {
	if n.Total() <= free {
		return nil
	}
	return fault.New(fault.DiskFull, "a bootstrap needs %s in %s (%s for chunks still to come, %s for the new database, %s to spare) and %s are free; the replica is as it was: make room, and it goes on by itself",
		mebibytes(n.Total()), dir, mebibytes(n.Spool), mebibytes(pages.Estimate(n.Rows, n.RawBytes)), mebibytes(marginBytes), mebibytes(free)).
		With("needed", fmt.Sprint(n.Total())).With("free", fmt.Sprint(free))
}

// mebibytes rounds up.
func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

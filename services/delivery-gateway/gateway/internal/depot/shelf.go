package depot

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
)

// Names of files: a snapshot's ID and one of these. Others are left alone.
const (
	chunksSuffix   = ".chunks"
	manifestSuffix = ".manifest"
	partSuffix     = ".part" // of a file that is being written
	lockName       = "lock"
	// temporaryPrefix begins the name of a directory that is nobody's after its gateway has ended.
	temporaryPrefix = "lockstep-snapshots-"
)

// shelf is the directory. It knows nothing of use and budget.
type shelf struct {
	dir       string
	lock      *os.File
	temporary bool
}

// openShelf makes and locks the directory; "" makes a temporary one, and clears away those that dead gateways left.
func openShelf(dir string) (*shelf, error) {
	s := &shelf{dir: dir, temporary: dir == ""}
	var err error
	if s.temporary {
		sweepTemporary()
		s.dir, err = os.MkdirTemp("", temporaryPrefix)
	} else {
		err = os.MkdirAll(dir, 0o750)
	}
	if err != nil {
		return nil, fmt.Errorf("directory for snapshots: %w", err)
	}
	if s.lock, err = lockDir(s.dir); err != nil {
		return nil, err
	}
	return s, nil
}

func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("directory for snapshots: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fault.New(fault.InUse, "the directory for snapshots %s is held by another gateway: give each its own", dir)
	}
	return lock, nil
}

// sweepTemporary removes the temporary directories whose lock nobody holds; what cannot be removed now is tried again next time.
func sweepTemporary() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), temporaryPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, lockName)); err != nil {
			continue // being made, or not ours
		}
		if lock, err := lockDir(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}

func (s *shelf) close() {
	if s.temporary {
		_ = os.RemoveAll(s.dir)
	}
	_ = s.lock.Close()
}

func (s *shelf) path(id snapshot.ID, suffix string) string {
	return filepath.Join(s.dir, id.String()+suffix)
}

// find gives the whole copies, least recently made first, and removes what is left of others. Their chunks are not proven yet.
func (s *shelf) find(log *slog.Logger) ([]*Copy, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("directory for snapshots: %w", err)
	}
	var found []*Copy
	whole := make(map[string]bool)
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), manifestSuffix)
		if !ok || !ours(base) {
			continue
		}
		c, err := s.open(base)
		if err != nil {
			log.Warn("a snapshot on disk is not whole; it is removed and will be fetched again when needed", "file", e.Name(), "error", err)
			continue
		}
		whole[base] = true
		found = append(found, c)
	}
	for _, e := range entries {
		base, suffix, _ := strings.Cut(e.Name(), ".")
		if ours(base) && (suffix == partSuffix[1:] || !whole[base] && (suffix == chunksSuffix[1:] || suffix == manifestSuffix[1:])) {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("directory for snapshots: %w", err)
			}
		}
	}
	slices.SortFunc(found, func(a, b *Copy) int { return a.takenAt.Compare(b.takenAt) })
	return found, nil
}

// ours reports whether base is what ID.String gives.
func ours(base string) bool {
	return len(base) == snapshot.HashBytes && strings.Trim(base, "0123456789abcdef") == ""
}

func (s *shelf) open(base string) (*Copy, error) {
	at := filepath.Join(s.dir, base)
	encoded, err := os.ReadFile(at + manifestSuffix)
	if err != nil {
		return nil, err
	}
	id := snapshot.ID(snapshot.HashOf(encoded))
	if id.String() != base {
		return nil, fault.New(fault.Corrupt, "the manifest is not that of the snapshot it is named after")
	}
	m, err := snapshot.ParseManifest(encoded, id)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(at+chunksSuffix, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Size() != int64(m.Bytes()) {
		err = fault.New(fault.Corrupt, "its chunks take %d bytes, and its manifest names %d", info.Size(), m.Bytes())
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Copy{Manifest: m, ID: id, Encoded: encoded, file: file, takenAt: info.ModTime(), proven: make([]atomic.Bool, m.Chunks())}, nil
}

// fill lets write make the file of c's chunks and keeps it with its manifest, or nothing of both (I4). No fsync: after a power cut a
// copy that is not whole is noticed by its length or its hashes, and storage has another.
func (s *shelf) fill(c *Copy, write func(*os.File) error) (err error) {
	part := s.path(c.ID, partSuffix)
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return fault.New(fault.DiskFull, "the gateway cannot keep snapshots: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(part)
		}
	}()
	if err := write(file); err != nil {
		return err
	}
	if err := os.Rename(part, s.path(c.ID, chunksSuffix)); err != nil {
		return fmt.Errorf("keeping a snapshot: %w", err)
	}
	if err = os.WriteFile(part, c.Encoded, 0o640); err == nil {
		err = os.Rename(part, s.path(c.ID, manifestSuffix))
	}
	if err != nil {
		s.remove(c.ID)
		return fault.New(fault.DiskFull, "the gateway could not keep a snapshot: %w", err)
	}
	c.file = file
	return nil
}

// remove takes the manifest first, so that what is left after a crash is known to be no copy.
func (s *shelf) remove(id snapshot.ID) {
	for _, suffix := range []string{manifestSuffix, chunksSuffix} {
		if err := os.Remove(s.path(id, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return // the next start tries again
		}
	}
}

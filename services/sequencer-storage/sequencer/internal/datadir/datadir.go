// Package datadir is the directory everything lies in: whose it is, which format it has, and where in it things are.
//
//	FORMAT      one line: "lockstep sequencer-storage <version>"
//	LOCK        held (flock) by the process that uses the directory
//	log/        RocksDB: the log
//	state/      RocksDB: the state; in format 1 it lay in log/
//	catalogue.db  SQLite
//	snapshots/  what consumers bootstrap and repair from; can be made anew
//	witness     tip witness
//
// Invariants:
//
//	I1  one process at a time uses a directory.
//	I2  a directory of another format or another program is refused and left as it was.
package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Version is the format this program writes. It reads Oldest too, and writes Version into FORMAT as soon as it may change something:
// what it writes from then on is not to be opened by a program that does not know it.
const (
	Version = 2
	Oldest  = 1
)

const program = "lockstep sequencer-storage"

// Dir is a directory held by this process. Close gives it back.
type Dir struct {
	path string
	lock *os.File
}

// Open takes the directory, making it when make is set and it is missing or empty. Faults: InUse, ForeignData, UnsupportedVersion.
func Open(path string, make bool) (*Dir, error) {
	if make {
		if err := os.MkdirAll(path, 0o750); err != nil {
			return nil, fault.New(fault.InvalidArgument, "the data directory cannot be made: %w", err)
		}
	}
	version, err := readFormat(path, make)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(path, "LOCK"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the data directory cannot be used: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // I1
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.New(fault.InUse, "the data directory %s is in use by another process; stop that one first or give another directory", path)
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if make && version != Version {
		if err := writeFormat(path); err != nil { // nobody else is in it now
			f.Close()
			return nil, err
		}
	}
	return &Dir{path: path, lock: f}, nil
}

// readFormat gives the version of the directory, 0 for one that is to be made (I2).
func readFormat(path string, make bool) (version int, err error) {
	name := filepath.Join(path, "FORMAT")
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		entries, err := os.ReadDir(path)
		if err != nil {
			return 0, fault.New(fault.InvalidArgument, "the data directory cannot be read: %w", err)
		}
		for _, e := range entries {
			// LOCK alone is what a process leaves that was killed while making the directory; lost+found is a fresh volume.
			if n := e.Name(); n != "LOCK" && n != "lost+found" && n != "FORMAT.new" {
				return 0, fault.New(fault.ForeignData, "%s is not a data directory of %s: it has no FORMAT file but holds %q; nothing was changed, give an empty directory", path, program, n)
			}
		}
		if !make {
			return 0, fault.New(fault.ForeignData, "%s is not a data directory of %s: it is empty", path, program)
		}
		return 0, nil
	}
	if err != nil {
		return 0, fault.New(fault.InvalidArgument, "the data directory cannot be read: %w", err)
	}
	if n, err := fmt.Sscanf(strings.TrimSpace(string(text)), program+" %d", &version); n != 1 || err != nil {
		return 0, fault.New(fault.ForeignData, "%s holds data of something else: its FORMAT file says %.60q; nothing was changed", path, text)
	}
	if version < Oldest || version > Version {
		return 0, fault.New(fault.UnsupportedVersion, "the data directory %s has format %d and this program knows formats %d to %d; nothing was changed, use the program that wrote it", path, version, Oldest, Version)
	}
	return version, nil
}

func writeFormat(path string) error {
	name := filepath.Join(path, "FORMAT")
	f, err := os.Create(name + ".new")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = fmt.Fprintf(f, "%s %d\n", program, Version)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Log is the folder of the engine's log.
func (d *Dir) Log() string { return filepath.Join(d.path, "log") }

// State is the folder of the engine's state.
func (d *Dir) State() string { return filepath.Join(d.path, "state") }

// Snapshots is the folder of snapshots.
func (d *Dir) Snapshots() string { return filepath.Join(d.path, "snapshots") }

// Catalogue is the file of the catalogue.
func (d *Dir) Catalogue() string { return filepath.Join(d.path, "catalogue.db") }

// Witness is the file of the tip witness.
func (d *Dir) Witness() string { return filepath.Join(d.path, "witness") }

// FreeBytes is what the file system has left for us.
func (d *Dir) FreeBytes() (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(d.path, &s); err != nil {
		return 0, fmt.Errorf("asking for free space of %s: %w", d.path, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// Close gives the directory back.
func (d *Dir) Close() error { return d.lock.Close() }

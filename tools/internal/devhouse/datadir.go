package devhouse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// formatVersion of the directory's layout. The services' own folders carry versions of their own.
const formatVersion = 1

const (
	markName = "lockstep.json"
	lockName = "lock"
)

// dataDir is a directory this process holds (I1).
type dataDir struct {
	path string
	lock *os.File
}

type mark struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// openDataDir makes or opens the directory, or refuses it (I1, I2).
func openDataDir(path string) (_ *dataDir, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "--data %q: %w", path, err)
	}
	if err := os.MkdirAll(abs, 0o750); err != nil {
		return nil, fault.New(fault.InvalidArgument, "the data directory %s cannot be made: %w", abs, err)
	}
	found, err := readMark(abs)
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(abs, lockName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the data directory %s cannot be written: %w", abs, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fault.New(fault.InUse, "the data directory %s is in use by another `lockstep dev`; stop that one, or choose another directory with --data", abs)
		}
		return nil, fault.New(fault.Internal, "locking the data directory %s: %w", abs, err)
	}
	if !found {
		if err := writeMark(abs); err != nil {
			_ = lock.Close() // the error that counts is err
			return nil, err
		}
	}
	return &dataDir{path: abs, lock: lock}, nil
}

// readMark reports whether the directory is ours; false for an empty one.
func readMark(dir string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, markName))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return false, fault.New(fault.InvalidArgument, "the data directory %s cannot be read: %w", dir, err)
		}
		for _, e := range entries {
			if e.Name() != lockName && e.Name() != lockName+".new" && e.Name() != "lost+found" {
				return false, fault.New(fault.ForeignData, "%s holds files that are not Lockstep's (%s), and was left as it is; choose an empty directory with --data", dir, e.Name())
			}
		}
		return false, nil
	}
	if err != nil {
		return false, fault.New(fault.InvalidArgument, "the data directory %s cannot be read: %w", dir, err)
	}
	var m mark
	if err := json.Unmarshal(text, &m); err != nil || m.Format != "lockstep dev" {
		return false, fault.New(fault.ForeignData, "%s is not a data directory of `lockstep dev` (see its %s), and was left as it is; choose another with --data", dir, markName)
	}
	if m.Version != formatVersion {
		return false, fault.New(fault.UnsupportedVersion, "the data directory %s has format version %d and this program knows version %d; it was left as it is: use the program that wrote it, or another directory with --data", dir, m.Version, formatVersion)
	}
	return true, nil
}

// writeMark makes the directory ours, durably.
func writeMark(dir string) error {
	text, err := json.Marshal(mark{"lockstep dev", formatVersion})
	if err != nil {
		return err
	}
	temporary := filepath.Join(dir, lockName+".new")
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("writing %s: %w", temporary, err)
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, filepath.Join(dir, markName))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", markName, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only synced
	return d.Sync()
}

// room is the folder of one service.
func (d *dataDir) room(name string) string { return filepath.Join(d.path, name) }

// close lets the directory go.
func (d *dataDir) close() error { return d.lock.Close() }

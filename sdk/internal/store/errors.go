package store

import (
	"errors"
	"syscall"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

func code(err error) sqlite3.ErrNo {
	var e sqlite3.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func isBusy(err error) bool { return code(err) == sqlite3.ErrBusy || code(err) == sqlite3.ErrLocked }

// Damaged reports whether err says that the file's own bytes make no database any more.
func Damaged(err error) bool {
	return code(err) == sqlite3.ErrCorrupt || code(err) == sqlite3.ErrNotADB
}

// explain gives SQLite's errors the reasons users can act on.
func explain(err error, doing string) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.DiskFull, "%s: no room on the disk; nothing was changed, and it is tried again: %w", doing, err)
	}
	switch code(err) {
	case 0:
		return err
	case sqlite3.ErrFull:
		return fault.New(fault.DiskFull, "%s: no room on the disk; nothing was changed, and it is tried again: %w", doing, err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return fault.New(fault.InUse, "%s: another connection holds the replica's file for writing; it is tried again: %w", doing, err)
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return fault.New(fault.Corrupt, "%s: the replica's file is damaged: %w", doing, err)
	}
	return fault.New(fault.Internal, "%s: %w", doing, err)
}

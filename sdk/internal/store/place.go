package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

const (
	generationPattern = "%06d.db"
	lockName          = "lock"
	keepSuffix        = ".keep"
	unprovenName      = "unproven.db"
	clearedName       = "cleared"
)

// Place is where a replica lies on disk.
type Place struct {
	link string // the path people use
	dir  string // of the generations
}

// PlaceOf gives the Place of the replica at path; nothing is touched.
func PlaceOf(path string) Place {
	path = filepath.Clean(path)
	return Place{link: path, dir: path + ".lockstep"}
}

// Path is the path people use.
func (p Place) Path() string { return p.link }

// Dir is where the generations lie, and what belongs to making them.
func (p Place) Dir() string { return p.dir }

// unproven is where a build is kept that did not prove to be what it must be: the last one of them.
func (p Place) unproven() string { return filepath.Join(p.dir, unprovenName) }

// File is a file of another purpose in the directory of generations.
func (p Place) File(name string) string { return filepath.Join(p.dir, name) }

// WriteFile replaces a file whole and durably: after a crash it is the old one or the new one.
func WriteFile(file string, b []byte) error {
	temporary := file + ".new"
	f, err := os.Create(temporary)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	_, err = f.Write(b)
	if err := firstOf(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(temporary, file); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return syncDir(filepath.Dir(file))
}

// Current gives the file the link names, "" when there is no link or it names a file that is gone. Whatever is neither is refused
// with fault.ForeignData (I4).
func (p Place) Current() (string, error) {
	info, err := os.Lstat(p.link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fault.New(fault.ForeignData, "%s cannot be looked at: %w", p.link, err)
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return "", p.refuse(info)
	}
	target, err := os.Readlink(p.link)
	if err != nil {
		return "", fault.New(fault.ForeignData, "%s cannot be read: %w", p.link, err)
	}
	if filepath.Dir(target) != filepath.Base(p.dir) || !isGeneration(filepath.Base(target)) {
		return "", fault.New(fault.ForeignData, "%s is a link to %s, which is not a generation of a replica; it was left as it is: give another path", p.link, target)
	}
	file := filepath.Join(p.dir, filepath.Base(target))
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return file, nil
}

// refuse says what lies at a path where a link should be.
func (p Place) refuse(info fs.FileInfo) error {
	what := "is not a regular file"
	if info.Mode().IsRegular() {
		meta, err := Identify(p.link)
		switch {
		case err == nil:
			what = fmt.Sprintf("is a plain copy of a replica of stream %q, not a replica that is kept up", meta.Stream)
		case fault.ReasonOf(err) == fault.ForeignData:
			return err
		default:
			what = "is a file that cannot be read as a replica: " + err.Error()
		}
	}
	return fault.New(fault.ForeignData, "%s %s; it was left as it is: move it away or give another path", p.link, what)
}

// Lock makes this process the replica's writer until the returned function is called. fault.InUse when another one is.
func (p Place) Lock() (unlock func(), err error) {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, fault.New(fault.InvalidArgument, "the directory of the replica %s cannot be made: %w", p.link, err)
	}
	f, err := os.OpenFile(filepath.Join(p.dir, lockName), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the replica %s cannot be locked: %w", p.link, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fault.New(fault.InUse, "another process keeps the replica %s up to date; it can be read meanwhile, but has one writer", p.link)
	}
	return func() { _ = f.Close() }, nil // closing gives the lock back
}

// generations lists the numbers of generation files, rising.
func (p Place) generations() ([]int, error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	var numbers []int
	for _, e := range entries {
		if n, ok := generationNumber(e.Name()); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (p Place) generation(n int) string {
	return filepath.Join(p.dir, fmt.Sprintf(generationPattern, n))
}

// next gives the file name of a generation that never existed beside those there are.
func (p Place) next() (string, error) {
	numbers, err := p.generations()
	if err != nil {
		return "", err
	}
	n := 1
	if len(numbers) > 0 {
		n = numbers[len(numbers)-1] + 1
	}
	return p.generation(n), nil
}

// publish makes the link name file, which lies in the Place's directory (I2).
func (p Place) publish(file string) error {
	if err := syncDir(p.dir); err != nil {
		return err
	}
	parent := filepath.Dir(p.link)
	temporary := filepath.Join(p.dir, "link")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("swap: %w", err)
	}
	if err := os.Symlink(filepath.Join(filepath.Base(p.dir), filepath.Base(file)), temporary); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	if err := os.Rename(temporary, p.link); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	_ = os.Remove(p.cleared()) // what it named has been carried over; the next Clear replaces it otherwise
	return syncDir(parent)
}

// Clear takes the link away, so that nobody finds the generation any more; its file stays for the user's objects in it, until another one is
// linked. Only the holder of the lock may.
func (p Place) Clear() error {
	if err := os.Rename(p.link, p.cleared()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take the link %s away: %w", p.link, err)
	}
	return nil
}

func (p Place) cleared() string { return filepath.Join(p.dir, clearedName) }

// Cleared gives the generation Clear took the link from; "" when there is none.
func (p Place) Cleared() string {
	target, err := os.Readlink(p.cleared())
	if err != nil || !isGeneration(filepath.Base(target)) {
		return ""
	}
	file := filepath.Join(p.dir, filepath.Base(target))
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// Clean removes every generation but the linked one (and one that was cleared, until another is linked) that no connection holds (I3). Only the holder of the lock may call it.
// It answers how many are still held.
func (p Place) Clean() (held int, err error) {
	current, err := p.Current()
	if err != nil {
		return 0, err
	}
	numbers, err := p.generations()
	if err != nil {
		return 0, err
	}
	for _, n := range numbers {
		file := p.generation(n)
		if file == current || file == p.Cleared() {
			continue
		}
		if _, err := os.Stat(file + keepSuffix); err == nil {
			continue
		}
		if isHeld(file) {
			held++
			continue
		}
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			if err := os.Remove(file + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return held, fmt.Errorf("remove an old generation: %w", err)
			}
		}
	}
	return held, nil
}

func isGeneration(name string) bool {
	_, ok := generationNumber(name)
	return ok
}

func generationNumber(name string) (int, bool) {
	if !strings.HasSuffix(name, ".db") {
		return 0, false
	}
	var n int
	if _, err := fmt.Sscanf(name, generationPattern, &n); err != nil || n <= 0 || fmt.Sprintf(generationPattern, n) != name {
		return 0, false
	}
	return n, true
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// Keep marks a generation so that Clean leaves it: something of the user's was not carried over from it.
func Keep(file string) error {
	f, err := os.OpenFile(file+keepSuffix, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("mark %s to be kept: %w", file, err)
	}
	return f.Close()
}

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
)

const (
	prefix         = "spool-"
	manifestSuffix = ".manifest"
	chunksSuffix   = ".chunks"
	unfinished     = ".new"
)

func nameOf(dir string, p lane.Partition, id snapshot.ID) string {
	return filepath.Join(dir, fmt.Sprintf("%s%d-%v", prefix, p, id))
}

// writeManifest leaves a manifest that is there already.
func writeManifest(path string, encoded []byte) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.WriteFile(path+unfinished, encoded, 0o644); err != nil {
		return err
	}
	return os.Rename(path+unfinished, path)
}

// Left is a snapshot of which a spool was left.
type Left struct {
	*snapshot.Manifest
	ID snapshot.ID
}

// Sweep lists what earlier bootstraps left in dir, the newest of each partition, and removes whatever else a spool left there: older ones,
// manifests that do not read, and those that ours does not take for a snapshot of what is replicated.
func Sweep(dir string, ours func(*snapshot.Manifest) bool) (map[lane.Partition]Left, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for spools: %w", err)
	}
	kept := map[lane.Partition]Left{}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), manifestSuffix)
		if !ok || !strings.HasPrefix(base, prefix) {
			continue
		}
		left, ok := readLeft(dir, base)
		if !ok || !ours(left.Manifest) {
			continue
		}
		p := left.Lane.Partition
		if have, ok := kept[p]; !ok || have.At.Compare(left.At) < 0 {
			kept[p] = left
		}
	}
	wanted := map[string]bool{}
	for p, left := range kept {
		name := filepath.Base(nameOf(dir, p, left.ID))
		wanted[name+manifestSuffix], wanted[name+chunksSuffix] = true, true
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && !wanted[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return kept, fmt.Errorf("remove an old spool: %w", err)
			}
		}
	}
	return kept, nil
}

// readLeft reads the manifest of a spool; ok is false when it is not the one its name says.
func readLeft(dir, base string) (Left, bool) {
	path := filepath.Join(dir, base+manifestSuffix)
	info, err := os.Stat(path)
	if err != nil || info.Size() > snapshot.MaxManifestBytes {
		return Left{}, false
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Left{}, false
	}
	id := snapshot.ID(snapshot.HashOf(b))
	m, err := snapshot.ParseManifest(b, id)
	if err != nil || filepath.Base(nameOf(dir, m.Lane.Partition, id)) != base {
		return Left{}, false
	}
	return Left{m, id}, true
}

// Clear removes every spool in dir.
func Clear(dir string) error {
	_, err := Sweep(dir, func(*snapshot.Manifest) bool { return false })
	return err
}

// explain gives errors of the disk the reason users can act on.
func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.DiskFull, "spool: no room on the disk; what came so far is kept, and it goes on from there when there is room: %w", err)
	}
	return fmt.Errorf("spool: %w", err)
}

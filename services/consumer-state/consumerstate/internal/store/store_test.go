package store_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/store"
)

var (
	limits = roster.Limits{Consumers: 10, Commands: 3, StreamCommands: 20}

	key        = roster.Key{Stream: 1<<64 - 2, ID: "c"}
	everything = roster.Command{Action: roster.FromSequence, FromSequence: 1 << 63, FromTimeMs: -3, MaxBytesPerSecond: 1<<64 - 1, Why: "a \"drill\"", All: true}
	// one has every field set, with numbers that need all their bits.
	one = roster.Attach{Key: key, Name: "orders", Kind: roster.Log, Client: "me\x00", Gateway: "gw"}
)

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t *testing.T, s *store.Store) roster.Kept {
	t.Helper()
	kept, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// draft runs commands on what s keeps and stores the outcome.
func draft(t *testing.T, s *store.Store, commands ...func(*roster.Draft) error) {
	t.Helper()
	d := roster.New(load(t, s), limits).NewDraft()
	for _, command := range commands {
		if err := command(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(t.Context(), d.Changes()); err != nil {
		t.Fatal(err)
	}
}

func attach(d *roster.Draft) error { _, err := d.Attach(one, 5); return err }
func forget(d *roster.Draft) error { return d.Delete("orders", "c") }
func checkpoint(incarnation lane.Incarnation, partition lane.Partition, p lane.Position) func(*roster.Draft) error {
	return func(d *roster.Draft) error {
		_, err := d.Checkpoint(key, incarnation, map[lane.Partition]roster.Cursor{partition: {Position: p, TimeMs: -4}}, 6)
		return err
	}
}

func issue(id string, nowMs int64) func(*roster.Draft) error {
	return func(d *roster.Draft) error {
		c := everything
		c.ID = id
		_, err := d.Issue(roster.Issue{Command: c, Name: "orders"}, nowMs)
		return err
	}
}

func progress(id string, state roster.State) func(*roster.Draft) error {
	return func(d *roster.Draft) error {
		return d.Report(key, 1, roster.Account{Health: []byte{3}, Commands: []roster.Progress{{ID: id, State: state, Encoded: []byte(id)}}}, 12)
	}
}

func TestEverythingIsKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	far := lane.Position{Epoch: 1<<64 - 1, Sequence: 1<<63 + 1}
	draft(t, s, attach, checkpoint(1, 3, far), func(d *roster.Draft) error { return d.Report(key, 1, roster.Account{Health: []byte{1, 2}}, 7) })
	draft(t, s, issue("gone", 7), issue("one", 8), progress("one", roster.Running), issue("two", 9), issue("three", 10), progress("three", roster.Done))
	draft(t, s, func(d *roster.Draft) error { return d.Detach(key, 1, 11) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer func() { _ = s.Close() }()
	command := func(id string, nowMs int64) *roster.Command {
		c := everything
		c.ID, c.IssuedMs = id, nowMs
		return &c
	}
	want := roster.Kept{
		Consumers: []*roster.Consumer{{
			Key: key, Name: "orders", Kind: roster.Log, Incarnation: 1, Left: true, Client: "me\x00", Gateway: "gw", FirstSeenMs: 5, LastSeenMs: 12,
			Health: []byte{3}, Cursors: map[lane.Partition]roster.Cursor{3: {Position: lane.Position{Epoch: far.Epoch, Sequence: 1<<63 - 1}}}, Rewound: true,
			Resets: []*roster.Reset{
				{Command: command("one", 8), Number: 2, State: roster.Superseded, Progress: []byte("one"), UpdatedMs: 9},
				{Command: command("two", 9), Number: 3, State: roster.Superseded, UpdatedMs: 10},
				{Command: command("three", 10), Number: 4, State: roster.Done, Progress: []byte("three"), UpdatedMs: 12},
			},
		}},
		Highest: map[lane.ID]lane.Position{{Stream: key.Stream, Partition: 3}: far},
	}
	if diff := cmp.Diff(want, load(t, s)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A file of the version without commands is brought up to date; what is in it stays.
func TestFileOfTheFirstVersion(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	draft(t, s, attach, checkpoint(1, 0, lane.Position{Epoch: 1, Sequence: 9}))
	before := load(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", filepath.Join(dir, store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("DROP TABLE reset; ALTER TABLE consumer DROP COLUMN rewound; PRAGMA user_version=1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s = open(t, dir)
		if diff := cmp.Diff(before, load(t, s)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		draft(t, s, issue("one", 7))
		if got := load(t, s).Consumers[0]; len(got.Resets) != 1 {
			t.Errorf("commands %v", got.Resets)
		}
		draft(t, s, forget, attach)
		before = load(t, s)
		if got := before.Consumers[0]; len(got.Resets) != 0 || got.Rewound {
			t.Errorf("made again: %+v", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever a row says is read, or refused by name.
func FuzzStoredReset(f *testing.F) {
	f.Add("one", int64(1), int64(1), int64(-1), int64(2), "why", []byte{1})
	f.Add("", int64(9), int64(0), int64(0), int64(0), "\xff", []byte(nil))
	dir := f.TempDir()
	s, err := store.Open(f.Context(), dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	d := roster.New(roster.Kept{}, limits).NewDraft()
	if err := attach(d); err != nil {
		f.Fatal(err)
	}
	if err := s.Commit(f.Context(), d.Changes()); err != nil {
		f.Fatal(err)
	}
	db, err := sql.Open("sqlite3", filepath.Join(dir, store.FileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	f.Fuzz(func(t *testing.T, id string, action, state, sequence, number int64, why string, encoded []byte) {
		if _, err := db.Exec("DELETE FROM reset"); err != nil {
			t.Fatal(err)
		}
		stream := key.Stream
		if _, err := db.Exec("INSERT INTO reset VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", int64(stream), string(key.ID), id, action, sequence, number, state, sequence,
			why, number, action, number, state, encoded, sequence); err != nil {
			t.Fatal(err)
		}
		kept, err := s.Load(t.Context())
		if err != nil {
			return // refused; a row like this comes only from another program, or from damage
		}
		got := kept.Consumers[0].Resets
		if len(got) != 1 || got[0].ID != id || got[0].Why != why || int64(got[0].FromSequence) != sequence || int64(got[0].Action) != action ||
			int64(got[0].State) != state || !got[0].State.Known() || !got[0].Action.Known() || string(got[0].Progress) != string(encoded) {
			t.Errorf("read %+v", got)
		}
	})
}

// Commands of one group meet in one draft; what is on disk must be as if each had been alone.
func TestDeletedAndMadeAgainWithinOneDraft(t *testing.T) {
	s := open(t, t.TempDir())
	defer func() { _ = s.Close() }()
	at := func(sequence lane.Sequence) lane.Position { return lane.Position{Epoch: 1, Sequence: sequence} }
	draft(t, s, attach, checkpoint(1, 0, at(9)))
	draft(t, s, forget, attach, forget, attach, checkpoint(3, 1, at(2)))
	kept := load(t, s)
	if len(kept.Consumers) != 1 || kept.Consumers[0].Incarnation != 3 || kept.Floor != 2 {
		t.Fatalf("kept %+v", kept)
	}
	if diff := cmp.Diff(map[lane.Partition]roster.Cursor{1: {Position: at(2), TimeMs: -4}}, kept.Consumers[0].Cursors); diff != "" {
		t.Errorf("cursors (-want +got)\n%s", diff)
	}
	draft(t, s, forget)
	if kept = load(t, s); len(kept.Consumers) != 0 || kept.Floor != 3 || kept.Highest[lane.ID{Stream: key.Stream}] != at(9) {
		t.Errorf("after the last deletion: %+v", kept)
	}
}

func TestWhatIsNotOursIsRefusedAndLeftAlone(t *testing.T) {
	write := func(statements string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			db, err := sql.Open("sqlite3", path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			if _, err := db.Exec(statements); err != nil {
				t.Fatal(err)
			}
		}
	}
	ours := func(t *testing.T, path string) {
		s := open(t, filepath.Dir(path))
		commands := []func(*roster.Draft) error{attach}
		for i := range lane.Partition(1000) {
			commands = append(commands, checkpoint(1, i, lane.Position{Epoch: 1, Sequence: 1}))
		}
		draft(t, s, commands...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want fault.Reason
		says string
	}{
		"another program's database": {write("CREATE TABLE t(x)"), fault.ForeignData, "another program"},
		"no database": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("letters ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, fault.ForeignData, "not a database"},
		"a newer version": {func(t *testing.T, path string) { ours(t, path); write("PRAGMA user_version=3")(t, path) }, fault.UnsupportedVersion, "version 3 and this program reads versions 1 to 2"},
		"broken pages": {func(t *testing.T, path string) {
			ours(t, path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 4096 + 100; i < len(data); i += 4096 {
				copy(data[i-100:], strings.Repeat("\xff", 200))
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}, fault.Corrupt, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), store.FileName)
			c.make(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(t.Context(), filepath.Dir(path))
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s that says %q", err, c.want, c.says)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestOneProcessHasTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when missing")
	s := open(t, dir)
	if _, err := store.Open(t.Context(), dir); !errors.Is(err, fault.InUse) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(); err != nil {
		t.Error(err)
	}
}

// A refused commit leaves nothing behind and the store usable.
func TestFullDiskAndForeignTransaction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer func() { _ = s.Close() }()
	draft(t, s, attach)
	before := load(t, s)

	large := roster.New(before, limits).NewDraft()
	if err := large.Report(key, 1, roster.Account{Health: make([]byte, 4<<20)}, 8); err != nil {
		t.Fatal(err)
	}
	store.LimitPages(t, s, 300)
	if err := s.Commit(t.Context(), large.Changes()); !errors.Is(err, fault.DiskFull) {
		t.Errorf("full: got %v", err)
	}
	if diff := cmp.Diff(before, load(t, s)); diff != "" {
		t.Errorf("full (-want +got)\n%s", diff)
	}

	db, err := sql.Open("sqlite3", filepath.Join(dir, store.FileName)+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	small := roster.New(before, limits).NewDraft()
	if err := small.Detach(key, 1, 8); err != nil {
		t.Fatal(err)
	}
	store.DoNotWait(t, s)
	if err := s.Commit(t.Context(), small.Changes()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("held by another: got %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), small.Changes()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A change of the driver's defaults must not cost durability.
func TestSettingsOfDurability(t *testing.T) {
	s := open(t, t.TempDir())
	defer func() { _ = s.Close() }()
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		if got := store.Pragma(t, s, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

package store

import (
	"fmt"
	"testing"
)

// LimitPages makes the disk as full as a test needs it.
func LimitPages(t *testing.T, s *Store, pages int) {
	exec(t, s, fmt.Sprintf("PRAGMA max_page_count=%d", pages))
}

// DoNotWait makes a transaction of another program count at once.
func DoNotWait(t *testing.T, s *Store) { exec(t, s, "PRAGMA busy_timeout=0") }

// Pragma reads a setting of the one connection.
func Pragma(t *testing.T, s *Store, name string) string {
	t.Helper()
	var value string
	if err := s.db.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func exec(t *testing.T, s *Store, statement string) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

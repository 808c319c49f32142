package engine

import (
	"github.com/linxGnu/grocksdb"
)

// Snapshot is a family at one moment. Close it.
type Snapshot struct {
	home home
	name string
	s    *grocksdb.Snapshot
	read *grocksdb.ReadOptions
}

// Snapshot pins the present of a family.
func (e *Engine) Snapshot(f Family) *Snapshot {
	s := &Snapshot{home: e.home[f], name: names[f], s: e.home[f].db.NewSnapshot(), read: grocksdb.NewDefaultReadOptions()}
	s.read.SetVerifyChecksums(true)
	s.read.SetFillCache(false)
	s.read.SetSnapshot(s.s)
	return s
}

// Close lets the moment go.
func (s *Snapshot) Close() {
	s.read.Destroy()
	s.home.db.ReleaseSnapshot(s.s)
}

// Get is Engine.Get at the snapshot's moment.
func (s *Snapshot) Get(key, buf []byte) ([]byte, bool, error) {
	v, err := s.home.db.GetCF(s.read, s.home.cf, key)
	if err != nil {
		return buf, false, translate("reading "+s.name, err)
	}
	defer v.Free()
	if !v.Exists() {
		return buf, false, nil
	}
	return append(buf, v.Data()...), true, nil
}

// Iterator walks a family in key order. Not safe for concurrent use. Close it.
type Iterator struct {
	it   *grocksdb.Iterator
	read *grocksdb.ReadOptions // nil when shared
	name string
}

// Scan iterates over the present of a family without filling the cache.
func (e *Engine) Scan(f Family) *Iterator {
	read := grocksdb.NewDefaultReadOptions()
	read.SetVerifyChecksums(true) // I3
	read.SetFillCache(false)
	return &Iterator{it: e.home[f].db.NewIteratorCF(read, e.home[f].cf), read: read, name: names[f]}
}

// Scan iterates over the snapshot's moment without filling the cache.
func (s *Snapshot) Scan() *Iterator {
	return &Iterator{it: s.home.db.NewIteratorCF(s.read, s.home.cf), name: s.name}
}

// Seek moves to the first key at or after key; false when there is none, or on an error.
func (i *Iterator) Seek(key []byte) bool { i.it.Seek(key); return i.it.Valid() }

// SeekBack moves to the last key at or before key; false when there is none, or on an error.
func (i *Iterator) SeekBack(key []byte) bool { i.it.SeekForPrev(key); return i.it.Valid() }

// Next moves on; false at the end, or on an error.
func (i *Iterator) Next() bool { i.it.Next(); return i.it.Valid() }

// Key is valid until the iterator moves.
func (i *Iterator) Key() []byte { return i.it.Key().Data() }

// Value is valid until the iterator moves.
func (i *Iterator) Value() []byte { return i.it.Value().Data() }

// Err tells why the last move gave false: nil at the end.
func (i *Iterator) Err() error { return translate("reading "+i.name, i.it.Err()) }

// Close frees the iterator.
func (i *Iterator) Close() {
	i.it.Close()
	if i.read != nil {
		i.read.Destroy()
	}
}

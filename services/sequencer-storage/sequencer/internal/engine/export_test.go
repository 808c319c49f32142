package engine

// Written lets the test read back what RocksDB wrote down about its options.
func Written(dir, name string) string { return written(dir, name) }

// PutInFormat1 puts a row where format 1 had the state: into the log's database.
func (e *Engine) PutInFormat1(key, value []byte) error {
	return e.log.db.PutCF(e.logged, e.log.cf[State], key, value)
}

// OwnCRC lets the test ask whether RocksDB's checksums come from here.
func OwnCRC() bool { return ownCRC() }

package engine

// Written lets the test read back what RocksDB wrote down about its options.
func (e *Engine) Written(name string) string { return e.written(name) }

package engine

/*
#cgo LDFLAGS: -ldl
int lockstep_own_crc(void);
*/
import "C"

// ownCRC reports whether RocksDB computes its checksums with crc32c.c.
func ownCRC() bool { return C.lockstep_own_crc() == 1 }

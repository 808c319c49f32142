// Package cache is the second level between gateways: blocks of the log in Redis. Nothing depends on it.
//
// It is the only package that knows Redis.
//
// Invariants:
//
//	I1  a value carries its lane, epoch, sequence and checksum; one that does not match its key, or was cut or changed, is a miss.
//	I2  a call takes at most CallTimeout; after some failures in a row Redis is left alone for a while.
//	I3  never an authority: the batches inside are checked again by whoever takes them.
package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Key names a block: the batches from the one that holds From.
type Key struct {
	Lane  lane.ID
	Epoch lane.Epoch
	From  lane.Sequence
}

func (k Key) String() string {
	return fmt.Sprintf("lockstep:block:1:%d:%d:%d:%d", k.Lane.Stream, k.Lane.Partition, k.Epoch, k.From)
}

const (
	// CallTimeout bounds every call.
	CallTimeout = 50 * time.Millisecond
	lifetime    = 10 * time.Minute
	// tripAfter failures in a row open the breaker for coolDown.
	tripAfter = 3
	coolDown  = 5 * time.Second
	// maxValueBytes: larger blocks are not worth the way.
	maxValueBytes = 8 << 20
)

// Cache is a connection to Redis. Safe for concurrent use.
type Cache struct {
	rdb *redis.Client
	log *slog.Logger

	mu        sync.Mutex // protects what follows
	failures  int
	openUntil time.Time
}

// Connect never fails for a Redis that is away; the address must be host:port.
func Connect(address string, log *slog.Logger) *Cache {
	return &Cache{log: log, rdb: redis.NewClient(&redis.Options{
		Addr: address, DialTimeout: CallTimeout, ReadTimeout: CallTimeout, WriteTimeout: CallTimeout, PoolTimeout: CallTimeout,
		ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 16, DisableIdentity: true,
	})}
}

// Close ends the connection.
func (c *Cache) Close() error { return c.rdb.Close() }

// Get gives the batches of a block, nil for a miss of any kind.
func (c *Cache) Get(ctx context.Context, k Key) [][]byte {
	if !c.allowed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	value, err := c.rdb.Get(ctx, k.String()).Bytes()
	if errors.Is(err, redis.Nil) {
		c.note(nil)
		return nil
	}
	c.note(err)
	if err != nil {
		return nil
	}
	batches, ok := decode(k, value)
	if !ok {
		c.log.Warn("a value in Redis does not match its key or checksum; ignored", "key", k.String())
		return nil
	}
	return batches
}

// Put stores a block, or does not.
func (c *Cache) Put(ctx context.Context, k Key, batches [][]byte) {
	value := encode(k, batches)
	if len(value) > maxValueBytes || !c.allowed() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	c.note(c.rdb.Set(ctx, k.String(), value, lifetime).Err())
}

// allowed is false while the breaker is open (I2).
func (c *Cache) allowed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().After(c.openUntil)
}

func (c *Cache) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.failures = 0
		return
	}
	if c.failures++; c.failures >= tripAfter {
		if c.failures == tripAfter {
			c.log.Warn("Redis does not answer; going on without it", "error", err)
		}
		c.openUntil = time.Now().Add(coolDown)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// headBytes: stream id, partition, epoch, from, number of batches, CRC32C of all that follows and of the fields before it.
const headBytes = 8 + 4 + 8 + 8 + 4 + 4

// encode: head, then each batch behind its length (4 bytes, big endian).
func encode(k Key, batches [][]byte) []byte {
	size := headBytes
	for _, b := range batches {
		size += 4 + len(b)
	}
	v := make([]byte, 0, size)
	v = binary.BigEndian.AppendUint64(v, uint64(k.Lane.Stream))
	v = binary.BigEndian.AppendUint32(v, uint32(k.Lane.Partition))
	v = binary.BigEndian.AppendUint64(v, uint64(k.Epoch))
	v = binary.BigEndian.AppendUint64(v, uint64(k.From))
	v = binary.BigEndian.AppendUint32(v, uint32(len(batches)))
	v = append(v, 0, 0, 0, 0)
	for _, b := range batches {
		v = binary.BigEndian.AppendUint32(v, uint32(len(b)))
		v = append(v, b...)
	}
	binary.BigEndian.PutUint32(v[headBytes-4:], checksum(v))
	return v
}

func checksum(v []byte) uint32 {
	return crc32.Update(crc32.Checksum(v[:headBytes-4], castagnoli), castagnoli, v[headBytes:])
}

func decode(k Key, v []byte) (batches [][]byte, ok bool) {
	if len(v) < headBytes || binary.BigEndian.Uint32(v[headBytes-4:]) != checksum(v) {
		return nil, false
	}
	if binary.BigEndian.Uint64(v) != uint64(k.Lane.Stream) || binary.BigEndian.Uint32(v[8:]) != uint32(k.Lane.Partition) ||
		binary.BigEndian.Uint64(v[12:]) != uint64(k.Epoch) || binary.BigEndian.Uint64(v[20:]) != uint64(k.From) {
		return nil, false
	}
	count := binary.BigEndian.Uint32(v[28:])
	rest := v[headBytes:]
	if uint64(count)*(4+batch.HeaderBytes) > uint64(len(rest)) {
		return nil, false
	}
	batches = make([][]byte, 0, count)
	for range count {
		if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-4) {
			return nil, false
		}
		n := 4 + int(binary.BigEndian.Uint32(rest))
		batches = append(batches, rest[4:n:n])
		rest = rest[n:]
	}
	return batches, len(rest) == 0
}

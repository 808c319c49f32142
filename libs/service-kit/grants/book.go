package grants

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const (
	maxFileBytes = 4 << 20
	// LookInterval is how often the file is looked at.
	LookInterval = 2 * time.Second
)

// Book is a tokens file and what it says now. Safe for concurrent use.
type Book struct {
	path string
	log  *slog.Logger
	page atomic.Pointer[page] // nil: open (I1)
	// seen is the newest content looked at, good or not. Only Open and Run touch it.
	seen []byte

	mu      sync.Mutex // protects what follows
	watched map[*watch]struct{}
}

// watch is something that lasts, and ends when its Pass no longer holds.
type watch struct {
	pass   Pass
	right  Right
	stream lane.StreamName
	fail   func(error)
}

// Open reads a tokens file; with path "" everybody may do everything. The log says which of both it is.
func Open(path string, log *slog.Logger) (*Book, error) {
	b := &Book{path: path, log: log, watched: make(map[*watch]struct{})}
	if path == "" {
		log.Info("no tokens file is set: whoever can connect may do everything") // I1
		return b, nil
	}
	data, err := b.read()
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the tokens file cannot be read: %w", err)
	}
	p, err := parse(data)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the tokens file %s: %w", path, err)
	}
	b.seen = data
	b.page.Store(&p)
	log.Info("only tokens of the tokens file are let in", "file", path, "tokens", len(p))
	return b, nil
}

// Run looks at the file every LookInterval until ctx ends (I3).
func (b *Book) Run(ctx context.Context) error {
	if b.path == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(LookInterval)
	defer tick.Stop()
	var unreadable string // said already
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		data, err := b.read()
		if err != nil {
			if unreadable != err.Error() { // I4
				unreadable = err.Error()
				b.log.Error("the tokens file cannot be read; what it said before holds", "error", err)
			}
			continue
		}
		unreadable = ""
		if bytes.Equal(data, b.seen) {
			continue
		}
		b.seen = data
		p, err := parse(data)
		if err != nil { // I4
			b.log.Error("the tokens file changed and is wrong; what it said before holds: mend it", "file", b.path, "error", err)
			continue
		}
		b.page.Store(&p)
		b.log.Info("the tokens file changed", "file", b.path, "tokens", len(p))
		b.revise()
	}
}

// read gives the file's content.
func (b *Book) read() ([]byte, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", b.path, maxFileBytes)
	}
	return data, err
}

// Admit gives the Pass of a token, or refuses one that is not listed.
func (b *Book) Admit(token string) (Pass, error) {
	if b.page.Load() == nil {
		return Pass{book: b}, nil
	}
	if token == "" {
		return Pass{}, fault.New(fault.Unauthenticated, "a bearer token is asked for here, and there was none: set --token or LOCKSTEP_TOKEN")
	}
	p := Pass{book: b, key: sha256.Sum256([]byte(token))}
	if _, err := p.grants(); err != nil {
		return Pass{}, err
	}
	return p, nil
}

// Watch calls fail once when the Pass no longer has a right; leave ends the watch. fail must not block, nor call leave.
func (b *Book) Watch(p Pass, right Right, stream lane.StreamName, fail func(error)) (leave func()) {
	w := &watch{p, right, stream, fail}
	b.mu.Lock()
	b.watched[w] = struct{}{}
	b.mu.Unlock()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watched, w)
	}
}

// revise tells every watch that a change has ended.
func (b *Book) revise() {
	type ended struct {
		w   *watch
		why error
	}
	var all []ended
	b.mu.Lock()
	for w := range b.watched {
		if err := w.pass.Check(w.right, w.stream); err != nil {
			delete(b.watched, w)
			all = append(all, ended{w, err})
		}
	}
	b.mu.Unlock()
	for _, e := range all {
		e.w.fail(e.why)
	}
}

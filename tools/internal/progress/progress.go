// Package progress draws one line of progress on a terminal, and nothing anywhere else.
package progress

import (
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Bar is one line with a rate. Safe for concurrent use; every method of a Bar that is off does nothing.
type Bar struct {
	mu  sync.Mutex // guards what follows
	on  bool
	out io.Writer
	// p and bar are the current phase's; nil between phases.
	p     *mpb.Progress
	bar   *mpb.Bar
	bytes bool // Phase draws bytes
	name  string
	drawn bool // the line is of bytes
}

// Start draws a bar of bytes named name; total 0 means unknown.
func Start(out io.Writer, on bool, name string, totalBytes int64) *Bar {
	b := New(out, on)
	b.bytes = true
	b.Phase(name, totalBytes)
	return b
}

// New makes a bar that draws rows once Phase was called, or bytes once Bytes was.
func New(out io.Writer, on bool) *Bar { return &Bar{out: out, on: on} }

// Phase ends the line that is drawn and begins one named name; the same name again only corrects the total. total 0 means unknown.
func (b *Bar) Phase(name string, total int64) {
	if !b.on {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin(name, total, b.bytes)
}

// Bytes is Phase for one that is measured in bytes.
func (b *Bar) Bytes(name string, total int64) {
	if !b.on {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin(name, total, true)
}

func (b *Bar) begin(name string, total int64, bytes bool) {
	if b.bar != nil && b.name == name && b.drawn == bytes {
		if total > 0 {
			b.bar.SetTotal(total, false)
		}
		return
	}
	b.end()
	b.name, b.drawn = name, bytes
	b.p = mpb.New(mpb.WithOutput(b.out), mpb.WithWidth(40))
	count, rate := decor.CurrentNoUnit("%d"), decor.AverageSpeed(0, "%.0f/s")
	if bytes {
		count, rate = decor.CurrentKibiByte("% .1f"), decor.AverageSpeed(decor.SizeB1024(0), "% .1f")
	}
	before := mpb.PrependDecorators(decor.Name(name, decor.WC{W: len(name) + 1, C: decor.DindentRight}))
	after := mpb.AppendDecorators(count, decor.Name("  "), rate)
	if total > 0 {
		b.bar = b.p.AddBar(total, before, after)
	} else {
		b.bar = b.p.AddSpinner(0, before, after)
	}
}

// Add counts n more.
func (b *Bar) Add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		b.bar.IncrInt64(n)
	}
}

// Set says how much is done.
func (b *Bar) Set(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		b.bar.SetCurrent(n)
	}
}

// Stop leaves the line as it stands. Further calls do nothing.
func (b *Bar) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end()
	b.on = false
}

func (b *Bar) end() {
	if b.bar == nil {
		return
	}
	if !b.bar.Completed() {
		b.bar.Abort(false)
	}
	b.p.Wait()
	b.bar, b.p = nil, nil
}

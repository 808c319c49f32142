// Package life runs the parts of a process as one.
//
//	start: part 1, part 2, ... part n      (each Run is called; none waits for another to be ready)
//	stop:  part n, ... part 2, part 1      (a part's context ends when every later part has returned)
//
// Invariants:
//
//	I1  the first part that returns, with or without an error, stops all others.
//	I2  Run returns when every part has returned, with the error of the part that ended first.
package life

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Part is one thing that runs for the life of a process. Run returns when ctx ends or the part fails; a panic counts as a failure.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// Run runs parts until ctx ends or one of them returns. A part that returns after ctx ended, with any error that is the context's
// own, ended well. nil when everything ended because ctx did.
func Run(ctx context.Context, log *slog.Logger, parts ...Part) error {
	type exit struct {
		index int
		err   error
	}
	exits := make(chan exit, len(parts))
	done := make([]chan struct{}, len(parts))
	cancels := make([]context.CancelFunc, len(parts))
	for i, part := range parts {
		// Parts do not inherit ctx's end: they are stopped one after another, below.
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancels[i], done[i] = cancel, make(chan struct{})
		go func() { // ends when the part returns; Run waits for it
			defer close(done[i])
			err := guard(partCtx, part)
			exits <- exit{i, err}
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case e := <-exits:
		first = e.err
		if first == nil && ctx.Err() == nil {
			first = errors.New("ended without being asked to")
		}
		if first != nil {
			first = fmt.Errorf("%s: %w", parts[e.index].Name, first)
			log.Error("a part of the process ended; stopping the others", "part", parts[e.index].Name, "error", first)
		}
	}
	for i := len(parts) - 1; i >= 0; i-- {
		cancels[i]()
		<-done[i]
	}
	close(exits)
	for e := range exits {
		if first == nil && e.err != nil && !errors.Is(e.err, context.Canceled) {
			first = fmt.Errorf("%s: %w", parts[e.index].Name, e.err)
		}
	}
	return first
}

func guard(ctx context.Context, part Part) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return part.Run(ctx)
}

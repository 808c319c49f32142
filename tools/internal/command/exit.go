package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Exit codes (I3).
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130

	exitDifferent = exitFailed // verify, diff
	exitUnknown   = exitUsage  // they could not tell
)

// coded is an error with an exit code of its own.
type coded struct {
	code int
	err  error // nil: everything was said already
}

func (c coded) Error() string {
	if c.err == nil {
		return ""
	}
	return c.err.Error()
}

func (c coded) Unwrap() error { return c.err }

// usage makes an error of the caller's command line.
func usage(format string, args ...any) error {
	return coded{exitUsage, fault.New(fault.InvalidArgument, format, args...)}
}

// conclude says err on stderr, unless it was said already, and gives the exit code.
func (c *console) conclude(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	code := exitFailed
	var own coded
	if errors.As(err, &own) {
		code = own.code
		if own.err == nil {
			return code
		}
	} else if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if c.json {
		line, marshalErr := json.Marshal(map[string]any{"error": fault.Of(err)})
		if marshalErr == nil {
			fmt.Fprintf(c.err, "%s\n", line)
			return code
		}
	}
	fmt.Fprintf(c.err, "lockstep: %v\n", err)
	return code
}

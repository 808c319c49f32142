package command

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"google.golang.org/grpc"
)

// console is what every command shares: the three streams, where the servers are, and how results are written. One goroutine.
type console struct {
	in       io.Reader
	out, err io.Writer
	version  string

	json      bool
	verbose   bool
	ingest    string
	gateway   string
	consumers string
	token     string
}

// say writes a line for people to stderr (I1); silent with --json.
func (c *console) say(format string, args ...any) {
	if !c.json {
		fmt.Fprintf(c.err, format+"\n", args...)
	}
}

// line writes one result as JSON.
func (c *console) line(v any) error {
	e := json.NewEncoder(c.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table writes rows for people, aligned.
func (c *console) table(header []any, rows [][]any) error {
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	for _, row := range append([][]any{header}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// onTerminal reports whether people watch stderr (I2).
func (c *console) onTerminal() bool {
	f, ok := c.err.(*os.File)
	return ok && !c.json && term.IsTerminal(int(f.Fd()))
}

// log is for the libraries: warnings, or everything with --verbose.
func (c *console) log() *slog.Logger {
	level := slog.LevelError
	if c.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}))
}

// dial connects to a gRPC service; the flag's name is for the message.
func (c *console) dial(target, flag string) (*grpc.ClientConn, error) {
	conn, err := rpc.Dial(target, rpc.ClientConfig{Token: c.token})
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "--%s %q is no address: %w", flag, target, err)
	}
	return conn, nil
}

// reach makes an unreachable service's error say where it was looked for.
func reach(err error, what, address, flag string) error {
	if fault.ReasonOf(err) == fault.Unavailable {
		return fault.New(fault.Unavailable, "%s at %s cannot serve or cannot be reached (--%s says where it is; `lockstep dev` starts one): %w", what, address, flag, err)
	}
	return err
}

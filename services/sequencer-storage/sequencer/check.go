package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/check"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/datadir"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/tip"
)

// Report is what Check found.
type Report = check.Report

// Check verifies the stopped data directory dir without changing it: every batch from the first retained on, its chain, the
// producers, the witnesses, every state row, and the state against a replay of the log where the log goes back that far. The error
// is for what kept it from looking; damage is in the Report. Faults: InUse, ForeignData, UnsupportedVersion.
func Check(ctx context.Context, dir string) (*Report, error) {
	d, err := datadir.Open(dir, false)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	c, err := catalogue.Open(d.Catalogue(), true)
	if err != nil {
		return damage(err)
	}
	defer c.Close()
	w, tips, err := tip.Open(d.Witness(), true)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	e, err := engine.Open(engine.Dirs{Log: d.Log(), State: d.State()}, engine.Config{ReadOnly: true})
	if err != nil {
		return damage(err)
	}
	defer e.Close()
	return check.Directory(ctx, e, c, tips)
}

// damage makes a report of what keeps a part from opening because it is damaged.
func damage(err error) (*Report, error) {
	if errors.Is(err, fault.Corrupt) || errors.Is(err, fault.ForeignData) {
		return &Report{Problems: []string{fmt.Sprint(err)}}, nil
	}
	return nil, err
}

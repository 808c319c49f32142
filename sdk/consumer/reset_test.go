package consumer_test

import (
	"strings"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/consumer"
)

func (d *desk) command(reset *deliveryv1.Reset) {
	d.t.Helper()
	if err := d.p.Command("log", d.cfg.ConsumerID, reset); err != nil {
		d.t.Fatal(err)
	}
}

// told gives what the consumer has reported of a command, once that has ended.
func (d *desk) told(id string) *consumerv1.ResetProgress {
	d.t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		for _, p := range d.p.Resets("log", d.cfg.ConsumerID) {
			if p.GetCommandId() == id && p.GetState() >= consumerv1.ResetState_RESET_STATE_DONE {
				return p
			}
		}
		select {
		case <-again.C:
		case <-d.ctx.Done():
			d.t.Fatalf("command %s does not end: %v", id, d.p.Resets("log", d.cfg.ConsumerID))
		}
	}
}

func fromSequence(id string, first ...uint64) *deliveryv1.Reset {
	reset := &deliveryv1.Reset{CommandId: id, Action: consumerv1.Action_ACTION_FROM_SEQUENCE}
	for p, s := range first {
		reset.From = append(reset.From, &consumerv1.Cursor{Partition: uint32(p), Position: &streamv1.Position{Epoch: 1, Sequence: s}})
	}
	return reset
}

// A live consumer that is told to take records again does so once, in the middle of its loop; its cursor at the provider moves back and stays
// there, whatever is acknowledged of what was given before; the next life goes on there too.
func TestResetTakesRecordsAgain(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.ConsumerID = "mailer"
	d.publish(0, 20)
	c := d.open()
	var got []lane.Sequence
	var old consumer.Record
	for r, err := range c.Records(d.ctx) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Position.Sequence)
		if want := len(got) > 20 && len(got) <= 38; r.Redelivered != want {
			t.Fatalf("record %d, the %dth, is marked redelivered: %v", r.Position.Sequence, len(got), r.Redelivered)
		}
		switch len(got) {
		case 20:
			old = r
			c.Ack(r)
			d.command(fromSequence("back", 3))
		case 22:
			c.Ack(old) // says nothing any more
			d.command(fromSequence("back", 3))
		case 25:
			c.Ack(r)
		case 38:
			d.publish(20, 22)
		}
		if len(got) == 40 {
			break
		}
	}
	for i, s := range got {
		if want := lane.Sequence(i + 1); i < 20 && s != want || i >= 20 && s != want-18 {
			t.Fatalf("the %dth record was %d: %v", i+1, s, got)
		}
	}
	p := d.told("back")
	if p.GetState() != consumerv1.ResetState_RESET_STATE_DONE || len(p.GetFrom()) != 1 || p.GetFrom()[0].GetPosition().GetSequence() != 3 || p.GetProblem() != "" {
		t.Fatalf("reported %v", p)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if at := d.p.Cursor("log", "mailer", 0); at != 7 {
		t.Fatalf("the provider keeps cursor %d", at)
	}
	if got := d.read(d.open(), 1, nil); got[0].Position.Sequence != 8 {
		t.Fatalf("the next life begins at %v", got[0].Position)
	}
}

// From 1, also a consumer that would begin at the tail begins at 1; what has expired by then is left out, and the report says so. A command
// to a consumer that is away waits for it.
func TestResetToTheBeginning(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.ConsumerID = "mailer"
	d.publish(0, 20)
	c := d.open()
	d.read(c, 20, func(_ int, r consumer.Record) { c.Ack(r) })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	d.command(fromSequence("first", 1))
	d.cfg.Start = consumer.Tail()
	c = d.open()
	if got := d.read(c, 20, nil); got[0].Position.Sequence != 1 || !got[0].Redelivered {
		t.Fatalf("began at %v", got[0])
	}
	if p := d.told("first"); p.GetState() != consumerv1.ResetState_RESET_STATE_DONE || d.p.Cursor("log", "mailer", 0) != 0 {
		t.Fatalf("reported %v, and the provider keeps %d", p, d.p.Cursor("log", "mailer", 0))
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = d.open()
	d.read(c, 20, func(_ int, r consumer.Record) { c.Ack(r) })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.p.Expire("log", 0, 11); err != nil {
		t.Fatal(err)
	}
	d.command(fromSequence("expired", 4))
	if got := d.read(d.open(), 10, nil); got[0].Position.Sequence != 11 {
		t.Fatalf("began at %v", got[0].Position)
	}
	p := d.told("expired")
	if p.GetState() != consumerv1.ResetState_RESET_STATE_DONE || p.GetFrom()[0].GetPosition().GetSequence() != 11 || !strings.Contains(p.GetProblem(), "[4, 11)") {
		t.Fatalf("reported %v", p)
	}
}

// What a log consumer cannot do fails, a dry run and a command for what is yet to come change nothing, and the loop goes on.
func TestResetsThatMoveNothing(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.ConsumerID = "mailer"
	d.publish(0, 10)
	c := d.open()
	dry := fromSequence("dry", 2)
	dry.DryRun = true
	d.read(c, 11, func(i int, r consumer.Record) {
		c.Ack(r)
		if i == 10 {
			for _, reset := range []*deliveryv1.Reset{
				{CommandId: "verify", Action: consumerv1.Action_ACTION_VERIFY}, {CommandId: "repair", Action: consumerv1.Action_ACTION_REPAIR},
				{CommandId: "full", Action: consumerv1.Action_ACTION_FULL}, {CommandId: "unknown", Action: 99}, dry, fromSequence("ahead", 100),
			} {
				d.command(reset)
			}
			go d.publishBehind(6)
		}
	})
	for id, want := range map[string]struct {
		state consumerv1.ResetState
		says  string
		from  int
	}{
		"verify": {consumerv1.ResetState_RESET_STATE_FAILED, "no rows to verify", 0}, "repair": {consumerv1.ResetState_RESET_STATE_FAILED, "no rows to repair", 0},
		"full": {consumerv1.ResetState_RESET_STATE_FAILED, "no rows to take anew", 0}, "unknown": {consumerv1.ResetState_RESET_STATE_FAILED, "upgrade", 0},
		"dry": {consumerv1.ResetState_RESET_STATE_DONE, "", 1}, "ahead": {consumerv1.ResetState_RESET_STATE_DONE, "", 0},
	} {
		if p := d.told(id); p.GetState() != want.state || !strings.Contains(p.GetProblem(), want.says) || len(p.GetFrom()) != want.from {
			t.Errorf("%s: reported %v", id, p)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if at := d.p.Cursor("log", "mailer", 0); at != 11 {
		t.Fatalf("the provider keeps cursor %d", at)
	}
}

// publishBehind publishes one record when so many commands were reported, or the test is over.
func (d *desk) publishBehind(commands int) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for len(d.p.Resets("log", d.cfg.ConsumerID)) < commands {
		select {
		case <-again.C:
		case <-d.ctx.Done():
			return
		}
	}
	_ = d.p.Put("log", "late", "late") // the reader fails when it does not come
}

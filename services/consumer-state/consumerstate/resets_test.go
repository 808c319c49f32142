package consumerstate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

const (
	waiting    = consumerv1.ResetState_RESET_STATE_WAITING
	running    = consumerv1.ResetState_RESET_STATE_RUNNING
	done       = consumerv1.ResetState_RESET_STATE_DONE
	failed     = consumerv1.ResetState_RESET_STATE_FAILED
	superseded = consumerv1.ResetState_RESET_STATE_SUPERSEDED
)

func (r *rig) attachAt(t failer, gateway, id string, kind consumerv1.ConsumerKind) uint64 {
	t.Helper()
	answer, err := r.Attach(context.Background(), &consumerv1.AttachRequest{Stream: streamName, StreamId: streamID, ConsumerId: id, Kind: kind, Gateway: gateway})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetIncarnation()
}

func (r *rig) replica(t failer, id string) uint64 {
	t.Helper()
	return r.attachAt(t, "gw-1", id, consumerv1.ConsumerKind_CONSUMER_KIND_REPLICA)
}

// repair is a command that every test can use.
func repair(id, consumer string) *consumerv1.IssueResetRequest {
	return &consumerv1.IssueResetRequest{ConsumerId: consumer, Command: &consumerv1.Command{CommandId: id, Stream: streamName, Action: consumerv1.Action_ACTION_REPAIR}}
}

func from(id, consumer string, sequence uint64) *consumerv1.IssueResetRequest {
	r := repair(id, consumer)
	r.Command.Action, r.Command.FromSequence = consumerv1.Action_ACTION_FROM_SEQUENCE, sequence
	return r
}

func (r *rig) issue(t failer, request *consumerv1.IssueResetRequest) *consumerv1.IssueResetResponse {
	t.Helper()
	answer, err := r.IssueReset(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// says reports commands, each in a state.
func (r *rig) says(t failer, id string, incarnation uint64, progress ...*consumerv1.ResetProgress) {
	t.Helper()
	_, err := r.Report(context.Background(), &consumerv1.ReportRequest{
		StreamId: streamID, ConsumerId: id, Incarnation: incarnation, Health: &consumerv1.Health{Phase: consumerv1.Phase_PHASE_LIVE, Resets: progress},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func is(id string, state consumerv1.ResetState) *consumerv1.ResetProgress {
	return &consumerv1.ResetProgress{CommandId: id, State: state}
}

// states gives "id state, id state" of a consumer's commands, oldest first.
func (r *rig) states(t failer, consumer string) string {
	t.Helper()
	answer, err := r.ListResets(context.Background(), &consumerv1.ListResetsRequest{Stream: streamName, ConsumerId: consumer})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, reset := range answer.GetResets() {
		all = append(all, reset.GetCommand().GetCommandId()+" "+strings.ToLower(strings.TrimPrefix(reset.GetProgress().GetState().String(), "RESET_STATE_")))
	}
	return strings.Join(all, ", ")
}

func TestTheSameCommandTwice(t *testing.T) {
	r := newRig(t, nil)
	r.replica(t, "a")
	r.replica(t, "b")
	request := &consumerv1.IssueResetRequest{ConsumerId: "a", Command: &consumerv1.Command{
		CommandId: "one", Stream: streamName, Action: consumerv1.Action_ACTION_FROM_SEQUENCE, FromSequence: 7, MaxBytesPerSecond: 1 << 40, Why: "a drill",
	}}
	want := proto.CloneOf(request.GetCommand())
	want.StreamId, want.IssuedMs = streamID, r.clock.ms.Load()
	same(t, "issued", r.issue(t, request), &consumerv1.IssueResetResponse{Command: want, ConsumerIds: []string{"a"}})
	r.clock.advance(time.Second)
	same(t, "again", r.issue(t, request), &consumerv1.IssueResetResponse{Command: want, ConsumerIds: []string{"a"}, Repeated: true})
	r.restart(t)
	same(t, "after a restart", r.issue(t, request), &consumerv1.IssueResetResponse{Command: want, ConsumerIds: []string{"a"}, Repeated: true})
	for name, change := range map[string]func(*consumerv1.IssueResetRequest){
		`stream id 7 instead of 8`:                 func(r *consumerv1.IssueResetRequest) { r.Command.StreamId = 8 },
		`consumer "a" instead of "b"`:              func(r *consumerv1.IssueResetRequest) { r.ConsumerId = "b" },
		`consumer "a" instead of all`:              func(r *consumerv1.IssueResetRequest) { r.ConsumerId, r.All = "", true },
		`from_sequence 7 instead of 8`:             func(r *consumerv1.IssueResetRequest) { r.Command.FromSequence = 8 },
		`dry_run false instead of true`:            func(r *consumerv1.IssueResetRequest) { r.Command.DryRun = true },
		`max_bytes_per_second 1099511627776 inste`: func(r *consumerv1.IssueResetRequest) { r.Command.MaxBytesPerSecond = 0 },
		`why a drill instead of earnest`:           func(r *consumerv1.IssueResetRequest) { r.Command.Why = "earnest" },
		`action from sequence instead of full, from_sequence 7 instead of 0`: func(r *consumerv1.IssueResetRequest) {
			r.Command.Action, r.Command.FromSequence = consumerv1.Action_ACTION_FULL, 0
		},
	} {
		other := proto.CloneOf(request)
		change(other)
		if _, err := r.IssueReset(context.Background(), other); !errors.Is(err, fault.InvalidArgument) || !strings.Contains(err.Error(), name) {
			t.Errorf("want a refusal that says %q, got %v", name, err)
		}
	}
	if got := r.states(t, ""); got != "one waiting" {
		t.Errorf("in the end: %s", got)
	}
	made := r.issue(t, repair("", "b")).GetCommand().GetCommandId()
	if again := r.issue(t, repair("", "b")).GetCommand().GetCommandId(); made == "" || again == made {
		t.Errorf("made ids: %q and %q", made, again)
	}
}

func TestWhatHappensToACommand(t *testing.T) {
	r := newRig(t, nil)
	inc := r.replica(t, "a")
	expect := func(what, want string) {
		t.Helper()
		if got := r.states(t, "a"); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	r.issue(t, repair("one", "a"))
	expect("issued", "one waiting")
	r.says(t, "a", inc, is("one", running))
	expect("reported", "one running")
	r.says(t, "a", inc, is("one", waiting), is("nobody's", done))
	expect("old news, and a command that nobody issued", "one running")
	r.restart(t)
	expect("after a restart", "one running")
	r.says(t, "a", inc)
	expect("a report without it", "one running")
	end := &consumerv1.ResetProgress{
		CommandId: "one", State: done, Rung: consumerv1.Rung_RUNG_REPAIR, Differing: 3, Missing: 2, Extra: 1, MovedBytes: 4711, TookMs: 9, Problem: "none",
		Digests: []*streamv1.DigestMark{{Epoch: 1, Sequence: 4, Sum: make([]byte, 16), Count: 2}},
	}
	r.clock.advance(time.Second)
	r.says(t, "a", inc, end)
	for _, late := range []*consumerv1.ResetProgress{is("one", running), is("one", failed), is("one", superseded), is("one", 0), is("one", 99)} {
		r.says(t, "a", inc, late)
	}
	listed, err := r.ListResets(context.Background(), &consumerv1.ListResetsRequest{CommandId: "one"})
	if err != nil || len(listed.GetResets()) != 1 {
		t.Fatal(listed, err)
	}
	same(t, "its end stays", listed.GetResets()[0].GetProgress(), end)
	if got := listed.GetResets()[0]; got.GetConsumerId() != "a" || got.GetUpdatedMs() != 1_001_000 || got.GetCommand().GetIssuedMs() != 1_000_000 {
		t.Errorf("listed %v", got)
	}
	same(t, "and is in the consumer's health", r.consumer(t, "a").GetHealth(), &consumerv1.Health{Phase: consumerv1.Phase_PHASE_LIVE, Resets: []*consumerv1.ResetProgress{end}})

	r.issue(t, repair("two", "a"))
	r.says(t, "a", inc, is("two", running))
	r.issue(t, repair("three", "a"))
	expect("a newer command replaces an open one, and leaves an ended one", "one done, two superseded, three waiting")
	r.says(t, "a", inc, is("two", done), is("three", failed))
	expect("what was superseded stays so", "one done, two superseded, three failed")
	r.restart(t)
	expect("after a restart", "one done, two superseded, three failed")

	_, err = r.DeleteConsumer(context.Background(), &consumerv1.DeleteConsumerRequest{Stream: streamName, ConsumerId: "a"})
	if err != nil {
		t.Fatal(err)
	}
	expect("commands go with their consumer", "")
	r.replica(t, "a")
	if r.issue(t, repair("one", "a")).GetRepeated() {
		t.Error("the id of a command that is gone was known")
	}
}

func TestCommandToAll(t *testing.T) {
	r := newRig(t, nil)
	r.replica(t, "b")
	r.attach(t, "log")
	r.replica(t, "a")
	_, err := r.Attach(context.Background(), &consumerv1.AttachRequest{Stream: streamName, StreamId: streamID - 1, ConsumerId: "of an older stream", Kind: 2})
	if !errors.Is(err, fault.InvalidName) {
		t.Fatal(err)
	}
	if _, err = r.Attach(context.Background(), &consumerv1.AttachRequest{Stream: streamName, StreamId: streamID - 1, ConsumerId: "older", Kind: 2}); err != nil {
		t.Fatal(err)
	}
	all := repair("one", "")
	all.All = true
	if got := r.issue(t, all).GetConsumerIds(); fmt.Sprint(got) != "[a b]" {
		t.Errorf("to all replicas of the newest stream of the name: %v", got)
	}
	r.replica(t, "c")
	if got := r.issue(t, all); fmt.Sprint(got.GetConsumerIds()) != "[a b]" || !got.GetRepeated() {
		t.Errorf("who came later is not meant: %v", got)
	}
	anew := from("two", "", 3)
	anew.All = true
	if got := r.issue(t, anew).GetConsumerIds(); fmt.Sprint(got) != "[a b c log]" {
		t.Errorf("to all: %v", got)
	}
	if got := r.states(t, "a"); got != "one superseded, two waiting" {
		t.Errorf("a has %s", got)
	}
	r.restart(t)
	if got := r.issue(t, anew); !got.GetRepeated() || len(got.GetConsumerIds()) != 4 {
		t.Errorf("after a restart: %v", got)
	}
}

// A log consumer's cursors go back when it says the command is done, and at no other moment.
func TestCursorsMoveBackByCommandOnly(t *testing.T) {
	r := newRig(t, nil)
	inc := r.attach(t, "log").GetIncarnation()
	copied := r.replica(t, "copy")
	at := func(consumer string) string {
		t.Helper()
		var all []string
		for _, l := range r.consumer(t, consumer).GetLanes() {
			p := l.GetCursor().GetPosition()
			all = append(all, fmt.Sprintf("%d:%d/%d", l.GetCursor().GetPartition(), p.GetEpoch(), p.GetSequence()))
		}
		return strings.Join(all, " ")
	}
	expect := func(what, consumer, want string) {
		t.Helper()
		if got := at(consumer); got != want {
			t.Errorf("%s: %s is at %s, want %s", what, consumer, got, want)
		}
	}
	checkpoint := func(consumer string, incarnation uint64, cursors ...*consumerv1.Cursor) {
		t.Helper()
		if _, err := r.checkpoint(consumer, incarnation, cursors...); err != nil {
			t.Fatal(err)
		}
	}
	start := []*consumerv1.Cursor{cursor(0, 1, 100), cursor(1, 2, 30), cursor(2, 1, 200)}
	checkpoint("log", inc, start...)
	checkpoint("copy", copied, start...)

	dry := from("dry", "log", 50)
	dry.Command.DryRun = true
	r.issue(t, dry)
	r.says(t, "log", inc, is("dry", done))
	expect("a dry run", "log", "0:1/100 1:2/30 2:1/200")
	r.issue(t, from("failed", "log", 50))
	r.says(t, "log", inc, is("failed", failed))
	r.issue(t, from("replaced", "log", 20))
	r.issue(t, from("back", "log", 50))
	r.says(t, "log", inc, is("replaced", done), is("back", running))
	expect("neither failed, nor superseded, nor running", "log", "0:1/100 1:2/30 2:1/200")
	checkpoint("log", inc, cursor(0, 1, 110))
	expect("it may go on meanwhile", "log", "0:1/110 1:2/30 2:1/200")

	r.says(t, "log", inc, is("back", done))
	expect("done", "log", "0:1/49 1:2/30 2:1/49")
	kept, err := r.checkpoint("log", inc, cursor(0, 1, 111))
	if err != nil || kept[0].GetPosition().GetSequence() != 49 {
		t.Errorf("a late acknowledgement: %v %v", kept, err)
	}
	r.restart(t)
	checkpoint("log", inc, cursor(2, 1, 201))
	r.says(t, "log", inc, is("back", done))
	expect("late acknowledgements and reports change nothing, not even after a restart", "log", "0:1/49 1:2/30 2:1/49")
	if got := r.tail(t, 1, 300, 0); got.GetLowest() != 49 || got.GetHighest() != 110 {
		t.Errorf("what was passed: %v", got)
	}
	anew := r.attach(t, "log")
	same(t, "attached anew", anew.GetCursors(), []*consumerv1.Cursor{cursor(0, 1, 49), cursor(1, 2, 30), cursor(2, 1, 49)})
	checkpoint("log", anew.GetIncarnation(), cursor(0, 1, 60))
	expect("and it goes on", "log", "0:1/60 1:2/30 2:1/49")
	r.says(t, "log", anew.GetIncarnation(), is("back", done))
	expect("the end is said again", "log", "0:1/60 1:2/30 2:1/49")

	byTime := from("time", "log", 0)
	byTime.Command.Action, byTime.Command.FromTimeMs = consumerv1.Action_ACTION_FROM_TIME, 999_000
	r.issue(t, byTime)
	resolved := is("time", done)
	resolved.From = []*consumerv1.Cursor{cursor(0, 1, 1), cursor(2, 1, 90)}
	r.says(t, "log", anew.GetIncarnation(), resolved)
	expect("from a time, where the consumer says that is; never forward", "log", "0:1/0 1:2/30 2:1/49")

	r.issue(t, from("expired", "log", 1))
	told := is("expired", done)
	told.From = []*consumerv1.Cursor{cursor(1, 2, 12), cursor(3, 1, 7)}
	r.says(t, "log", anew.GetIncarnation(), told)
	expect("where the consumer says it begins, also where it had no cursor", "log", "0:1/0 1:2/11 2:1/0 3:1/6")

	r.issue(t, from("copy", "copy", 50))
	r.says(t, "copy", copied, is("copy", done))
	expect("a replica's cursor is its file's", "copy", "0:1/100 1:2/30 2:1/200")
	listed, err := r.ListResets(context.Background(), &consumerv1.ListResetsRequest{CommandId: "dry"})
	if err != nil || !listed.GetResets()[0].GetCommand().GetDryRun() {
		t.Errorf("the dry run, after a restart: %v %v", listed, err)
	}
}

func TestCommandsHaveBounds(t *testing.T) {
	r := newRig(t, func(c *consumerstate.Config) { c.MaxConsumers = 8 })
	inc := r.replica(t, "a")
	for i := range 20 {
		id := fmt.Sprintf("c-%02d", i)
		r.issue(t, repair(id, "a"))
		p := is(id, done)
		p.Problem = strings.Repeat("ä", 5000)
		for range 1000 {
			p.Digests = append(p.Digests, &streamv1.DigestMark{Epoch: 1, Sequence: 1, Sum: make([]byte, 16)})
		}
		r.says(t, "a", inc, p)
	}
	check := func(what string) {
		t.Helper()
		answer, err := r.ListResets(context.Background(), &consumerv1.ListResetsRequest{ConsumerId: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(answer.GetResets()); n != 16 || answer.GetResets()[0].GetCommand().GetCommandId() != "c-04" {
			t.Errorf("%s: %d commands, the oldest %v", what, n, answer.GetResets()[0].GetCommand())
		}
		for _, reset := range answer.GetResets() {
			if p := reset.GetProgress(); len(p.GetProblem()) > 512 || !strings.HasSuffix(p.GetProblem(), "ä...") || len(p.GetDigests()) != 64 {
				t.Errorf("%s: a problem of %d bytes and %d digests", what, len(p.GetProblem()), len(p.GetDigests()))
			}
		}
	}
	check("issued")
	r.restart(t)
	check("after a restart")
	for i := range 40 {
		r.issue(t, repair(fmt.Sprintf("d-%02d", i), fmt.Sprint("r-", i%4)+r.known(t, fmt.Sprint("r-", i%4))))
	}
	answer, err := r.ListResets(context.Background(), &consumerv1.ListResetsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	open := 0
	for _, reset := range answer.GetResets() {
		if reset.GetProgress().GetState() == waiting {
			open++
		}
	}
	if len(answer.GetResets()) != 32 || open != 4 {
		t.Errorf("%d commands of the stream, %d of them open", len(answer.GetResets()), open)
	}
}

// known attaches a replica that is not there yet, and gives "".
func (r *rig) known(t failer, id string) string {
	t.Helper()
	answer, err := r.ListConsumers(context.Background(), &consumerv1.ListConsumersRequest{ConsumerId: id})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.GetConsumers()) == 0 {
		r.replica(t, id)
	}
	return ""
}

func TestRefusedCommands(t *testing.T) {
	r := newRig(t, nil)
	r.attach(t, "log")
	r.replica(t, "copy")
	for name, c := range map[string]struct {
		change func(*consumerv1.IssueResetRequest)
		want   fault.Reason
		says   string
	}{
		"nobody":               {func(r *consumerv1.IssueResetRequest) { r.ConsumerId = "" }, fault.InvalidName, "consumer"},
		"one and all":          {func(r *consumerv1.IssueResetRequest) { r.All = true }, fault.InvalidArgument, "choose one"},
		"no stream":            {func(r *consumerv1.IssueResetRequest) { r.Command.Stream = "" }, fault.InvalidName, "stream"},
		"unknown consumer":     {func(r *consumerv1.IssueResetRequest) { r.ConsumerId = "kopy" }, fault.UnknownConsumer, `it has "copy", "log"`},
		"stream without any":   {func(r *consumerv1.IssueResetRequest) { r.Command.Stream = "none" }, fault.UnknownConsumer, `stream "none" has no consumers`},
		"all of no stream":     {func(r *consumerv1.IssueResetRequest) { r.Command.Stream, r.ConsumerId, r.All = "none", "", true }, fault.UnknownConsumer, `"none" has no consumers`},
		"another stream's id":  {func(r *consumerv1.IssueResetRequest) { r.Command.StreamId = 99 }, fault.UnknownConsumer, "copy"},
		"no action":            {func(r *consumerv1.IssueResetRequest) { r.Command.Action = 0 }, fault.InvalidArgument, "there are verify, repair"},
		"unknown action":       {func(r *consumerv1.IssueResetRequest) { r.Command.Action = 6 }, fault.InvalidArgument, "action 6"},
		"from no sequence":     {func(r *consumerv1.IssueResetRequest) { r.Command.Action = 4 }, fault.InvalidArgument, "sequences begin at 1"},
		"from no time":         {func(r *consumerv1.IssueResetRequest) { r.Command.Action = 5 }, fault.InvalidArgument, "milliseconds"},
		"repair from sequence": {func(r *consumerv1.IssueResetRequest) { r.Command.FromSequence = 4 }, fault.InvalidArgument, "does not go with repair"},
		"repair of a log":      {func(r *consumerv1.IssueResetRequest) { r.ConsumerId = "log" }, fault.InvalidArgument, "for replicas"},
		"a long reason":        {func(r *consumerv1.IssueResetRequest) { r.Command.Why = strings.Repeat("x", 513) }, fault.InvalidArgument, "513 bytes"},
		"a long id":            {func(r *consumerv1.IssueResetRequest) { r.Command.CommandId = strings.Repeat("x", 129) }, fault.InvalidName, "command"},
		"an id of signs":       {func(r *consumerv1.IssueResetRequest) { r.Command.CommandId = "../x" }, fault.InvalidName, "command"},
	} {
		request := repair("one", "copy")
		c.change(request)
		if _, err := r.IssueReset(context.Background(), request); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %s that says %q", name, err, c.want, c.says)
		}
	}
	if got := r.states(t, ""); got != "" {
		t.Errorf("refusals left %s", got)
	}
}

package consumerstate

import (
	"context"
	"crypto/rand"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

const (
	// maxProgressDigests are kept of a command's end; a stream of more partitions shows the first.
	maxProgressDigests = 64
	// maxCommands of each consumer are kept, open and ended.
	maxCommands = 16
	// streamCommands of each consumer are kept on average, when all consumers of a stream have many.
	streamCommands = 4
	// maxWatches bounds the gateways that watch; one that begins anew may overlap with its last.
	maxWatches = 1024
)

func (a *api) IssueReset(ctx context.Context, r *consumerv1.IssueResetRequest) (*consumerv1.IssueResetResponse, error) {
	pass, err := a.admit(ctx)
	if err != nil {
		return nil, err
	}
	if err := pass.Check(grants.Manage, lane.StreamName(r.GetCommand().GetStream())); err != nil {
		return nil, err
	}
	wish, err := readIssue(r)
	if err != nil {
		return nil, err
	}
	var issued roster.Issued
	if err := a.do(ctx, func(d *roster.Draft) error {
		issued, err = d.Issue(wish, a.nowMs())
		return err
	}); err != nil {
		return nil, err
	}
	answer := &consumerv1.IssueResetResponse{Command: protoCommand(issued.Command, issued.Name, issued.Stream), Repeated: issued.Repeated}
	for _, id := range issued.Consumers {
		answer.ConsumerIds = append(answer.ConsumerIds, string(id))
	}
	a.deps.Log.Info("reset issued", "command", issued.ID, "action", issued.Action.String(), "stream", issued.Name, "consumers", len(issued.Consumers), "repeated", issued.Repeated)
	return answer, nil
}

// readIssue refuses what cannot be meant.
func readIssue(r *consumerv1.IssueResetRequest) (roster.Issue, error) {
	c := r.GetCommand()
	wish := roster.Issue{
		Name: lane.StreamName(c.GetStream()), Stream: lane.StreamID(c.GetStreamId()), Consumer: lane.ConsumerID(r.GetConsumerId()),
		Command: roster.Command{
			ID: c.GetCommandId(), Action: roster.Action(c.GetAction()), FromSequence: lane.Sequence(c.GetFromSequence()), FromTimeMs: c.GetFromTimeMs(),
			DryRun: c.GetDryRun(), MaxBytesPerSecond: c.GetMaxBytesPerSecond(), Why: c.GetWhy(), All: r.GetAll(),
		},
	}
	if wish.ID == "" {
		wish.ID = strings.ToLower(rand.Text()[:13]) // 65 random bits, and short enough to type
	}
	checks := []error{lane.CheckName("stream", c.GetStream()), lane.CheckName("command", wish.ID), checkTexts(wish.Why)}
	if !wish.All {
		checks = append(checks, lane.CheckName("consumer", r.GetConsumerId()))
	}
	for _, err := range checks {
		if err != nil {
			return wish, err
		}
	}
	refuse := func(format string, args ...any) (roster.Issue, error) {
		return wish, fault.New(fault.InvalidArgument, format+"; nothing was issued", args...)
	}
	switch {
	case wish.All && wish.Consumer != "":
		return refuse("the command names consumer %q and all consumers: choose one", wish.Consumer)
	case !wish.Action.Known():
		return refuse("action %d is not known: there are verify, repair, full, from sequence and from time", c.GetAction())
	case wish.Action == roster.FromSequence && wish.FromSequence == 0:
		return refuse("the sequence to begin anew from is missing: sequences begin at 1")
	case wish.Action == roster.FromTime && wish.FromTimeMs <= 0:
		return refuse("the time to begin anew from is missing: milliseconds since 1970")
	case wish.Action != roster.FromSequence && wish.FromSequence != 0, wish.Action != roster.FromTime && wish.FromTimeMs != 0:
		return refuse("a sequence or time to begin anew from does not go with %v", wish.Action)
	}
	return wish, nil
}

// ListResets shows the commands to consumers of the streams that the caller may read.
func (a *api) ListResets(ctx context.Context, r *consumerv1.ListResetsRequest) (*consumerv1.ListResetsResponse, error) {
	pass, err := a.reader(ctx, r.GetStream())
	if err != nil {
		return nil, err
	}
	answer := &consumerv1.ListResetsResponse{}
	for _, c := range a.roster.List(lane.StreamName(r.GetStream()), lane.ConsumerID(r.GetConsumerId())) {
		if len(c.Resets) == 0 || pass.Check(grants.Read, c.Name) != nil {
			continue
		}
		for _, reset := range c.Resets {
			if want := r.GetCommandId(); want != "" && want != reset.ID {
				continue
			}
			progress, err := readProgress(c, reset)
			if err != nil {
				return nil, err
			}
			answer.Resets = append(answer.Resets, &consumerv1.Reset{
				Command: protoCommand(reset.Command, c.Name, c.Stream), ConsumerId: string(c.ID), Progress: progress, UpdatedMs: reset.UpdatedMs,
			})
		}
	}
	return answer, nil
}

// WatchResets sends, to each consumer's gateway, the command that consumer has open by then (see package watch).
func (a *api) WatchResets(r *consumerv1.WatchResetsRequest, stream grpc.ServerStreamingServer[consumerv1.WatchResetsResponse]) error {
	gateway := r.GetGateway()
	if gateway == "" {
		return fault.New(fault.InvalidArgument, "the gateway that watches has no name: give the one its consumers attach with")
	}
	if err := checkTexts(gateway); err != nil {
		return err
	}
	w, err := a.watches.Join(gateway)
	if err != nil {
		return err
	}
	defer w.Leave()
	for _, c := range a.roster.List("", "") {
		if c.Gateway == gateway && c.Open() != nil {
			w.Tell(c.Key)
		}
	}
	if err := stream.SendHeader(metadata.MD{}); err != nil { // now the caller may rely on being told
		return err
	}
	for {
		select {
		case <-w.More:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		keys, err := w.Take()
		if err != nil {
			return err
		}
		for _, key := range keys {
			c := a.roster.Find(key)
			if c == nil || c.Left || c.Gateway != gateway || c.Open() == nil {
				continue
			}
			if err := stream.Send(&consumerv1.WatchResetsResponse{
				ConsumerId: string(c.ID), Incarnation: uint64(c.Incarnation), Command: protoCommand(c.Open().Command, c.Name, c.Stream),
			}); err != nil {
				return err
			}
		}
	}
}

// published tells watchers of commands issued, and of consumers that came.
func (s *Service) published(changes roster.Changes) {
	for _, c := range changes.Due {
		s.watches.Tell(c.Gateway, c.Key)
	}
}

// readAccount divides what a consumer says of itself: its commands are kept apart from its health.
func readAccount(id lane.ConsumerID, h *consumerv1.Health) (roster.Account, error) {
	var said roster.Account
	for _, p := range h.GetResets() {
		if !roster.State(p.GetState()).Known() || p.GetState() == consumerv1.ResetState_RESET_STATE_SUPERSEDED { // that is for us to say
			continue
		}
		read := roster.Progress{ID: p.GetCommandId(), State: roster.State(p.GetState())}
		if len(p.GetFrom()) > 0 {
			from, err := readCursors("place to begin anew from", p.GetFrom())
			if err != nil {
				return said, err
			}
			read.From = make(map[lane.Partition]lane.Position, len(from))
			for partition, at := range from {
				read.From[partition] = at.Position
			}
		}
		kept := proto.CloneOf(p)
		kept.CommandId, kept.From = "", nil
		kept.Problem = cut(kept.GetProblem(), maxTextBytes)
		kept.Digests = kept.GetDigests()[:min(len(kept.GetDigests()), maxProgressDigests)]
		var err error
		if read.Encoded, err = proto.Marshal(kept); err != nil {
			return said, fault.New(fault.InvalidArgument, "what consumer %q says of command %q cannot be stored: %w", id, p.GetCommandId(), err)
		}
		said.Commands = append(said.Commands, read)
	}
	h = proto.CloneOf(h)
	if h != nil {
		h.Resets = nil
	}
	health, err := proto.Marshal(h)
	if err != nil {
		return said, fault.New(fault.InvalidArgument, "the health of consumer %q cannot be stored: %w", id, err)
	}
	if len(health) > maxHealthBytes {
		return said, fault.New(fault.InvalidArgument, "the health of consumer %q takes %d bytes and may take %d; the last one was kept", id, len(health), maxHealthBytes)
	}
	said.Health = health
	return said, nil
}

func readProgress(c *roster.Consumer, r *roster.Reset) (*consumerv1.ResetProgress, error) {
	p := &consumerv1.ResetProgress{}
	if err := proto.Unmarshal(r.Progress, p); err != nil {
		return nil, fault.New(fault.Corrupt, "the stored progress of command %q to consumer %q cannot be read: %w", r.ID, c.ID, err)
	}
	p.CommandId, p.State = r.ID, consumerv1.ResetState(r.State)
	return p, nil
}

func protoCommand(c *roster.Command, name lane.StreamName, stream lane.StreamID) *consumerv1.Command {
	return &consumerv1.Command{
		CommandId: c.ID, Stream: string(name), StreamId: uint64(stream), Action: consumerv1.Action(c.Action), FromSequence: uint64(c.FromSequence),
		FromTimeMs: c.FromTimeMs, DryRun: c.DryRun, MaxBytesPerSecond: c.MaxBytesPerSecond, Why: c.Why, IssuedMs: c.IssuedMs,
	}
}

// cut shortens a text for people to at most so many bytes.
func cut(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return strings.ToValidUTF8(text[:bytes-3], "") + "..."
}

package consumerstate_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/metadata"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

// S12: who consumes, and what they were told to do, is told to those who may read the stream; those who manage it delete and command.
func TestTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("reader orders\nops * manage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *consumerstate.Config) { c.TokensFile = file })
	for id, stream := range map[uint64]string{1: "orders", 2: "secrets"} { // by a gateway, which is not asked
		if _, err := r.Attach(t.Context(), &consumerv1.AttachRequest{Stream: stream, StreamId: id, ConsumerId: "c"}); err != nil {
			t.Fatal(err)
		}
	}
	list := func(token, stream string) ([]*consumerv1.Consumer, error) {
		answer, err := r.ListConsumers(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token), &consumerv1.ListConsumersRequest{Stream: stream})
		return answer.GetConsumers(), err
	}
	if all, err := list("reader", ""); err != nil || len(all) != 1 || all[0].GetStream() != "orders" {
		t.Errorf("a reader's list: %v %v", all, err)
	}
	if all, err := list("ops", ""); err != nil || len(all) != 0 {
		t.Errorf("the list of who may not read: %v %v", all, err)
	}
	if _, err := list("reader", "secrets"); !errors.Is(err, fault.NotPermitted) {
		t.Errorf("a stream that is not granted: %v", err)
	}
	if _, err := list("guess", ""); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("an unknown token: %v", err)
	}
	as := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	}
	for _, stream := range []string{"orders", "secrets"} {
		command := &consumerv1.IssueResetRequest{ConsumerId: "c", Command: &consumerv1.Command{CommandId: "one", Stream: stream, Action: consumerv1.Action_ACTION_VERIFY}}
		if _, err := r.IssueReset(as("reader"), command); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("a reader commands: %v", err)
		}
		if answer, err := r.IssueReset(as("ops"), command); err != nil || answer.GetRepeated() {
			t.Errorf("a command: %v %v", answer, err)
		}
	}
	if all, err := r.ListResets(as("reader"), &consumerv1.ListResetsRequest{CommandId: "one"}); err != nil || len(all.GetResets()) != 1 || all.GetResets()[0].GetCommand().GetStream() != "orders" {
		t.Errorf("a reader's list of commands: %v %v", all, err)
	}
	if _, err := r.ListResets(as("reader"), &consumerv1.ListResetsRequest{Stream: "secrets"}); !errors.Is(err, fault.NotPermitted) {
		t.Errorf("commands of a stream that is not granted: %v", err)
	}
	if _, err := r.ListResets(as("guess"), &consumerv1.ListResetsRequest{}); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("an unknown token: %v", err)
	}
	remove := func(token string) error {
		_, err := r.DeleteConsumer(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token), &consumerv1.DeleteConsumerRequest{Stream: "orders", ConsumerId: "c"})
		return err
	}
	if err := remove("reader"); !errors.Is(err, fault.NotPermitted) {
		t.Errorf("deleting as a reader: %v", err)
	}
	if all, err := list("reader", ""); err != nil || len(all) != 1 {
		t.Errorf("after a refused deletion: %v %v", all, err)
	}
	if err := remove("ops"); err != nil {
		t.Errorf("deleting: %v", err)
	}
}

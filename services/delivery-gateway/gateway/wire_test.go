package gateway_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"google.golang.org/protobuf/proto"
)

// TestTheFourTypesOnTheWire pins the metadata of what a consumer is sent, byte by byte as it arrives: regular records, the initiation of a
// bootstrap, a reset, a status. Consumers written against these bytes are in use; a change here is a change of the protocol.
func TestTheFourTypesOnTheWire(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(3, 10)
	k := h.keep(3, 3)
	c := h.dial()
	incarnation := attach(t, c, "a")
	// arrives gives the metadata of the next delivery of a kind, in hex, without what the compression of a snapshot decides.
	arrives := func(r *reading, kind deliveryv1.Delivery_Kind) string {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for {
			p, err := r.in.Recv(ctx)
			if err != nil {
				t.Fatalf("waiting for %v: %v", kind, err)
			}
			_ = r.in.Request(1)
			var d deliveryv1.Delivery
			if err := proto.Unmarshal(p.Metadata, &d); err != nil {
				t.Fatal(err)
			}
			if d.GetKind() == kind {
				text := strings.ReplaceAll(hex.EncodeToString(p.Metadata), hex.EncodeToString(k.ID[:]), "<id>")
				text = strings.ReplaceAll(text, hex.EncodeToString(k.Set.Sum.Append(nil)), "<sum>")
				if length := hex.EncodeToString(binary.AppendUvarint(nil, k.RowBytes())); kind == deliveryv1.Delivery_KIND_BOOTSTRAP {
					text = strings.TrimSuffix(text, length) + "<length>"
				}
				return text
			}
		}
	}
	same := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is\n%s on the wire, want\n%s", what, got, want)
		}
	}
	records := open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", ConsumerId: "a", Incarnation: incarnation}, 64)
	same("a batch of regular records", arrives(records, deliveryv1.Delivery_KIND_BATCH), "08011801200128033083d095ffbc3148015003")
	same("a status", arrives(follow(t, c, "a", incarnation), deliveryv1.Delivery_KIND_STATUS), "0804180120012803")
	h.keeper.watched(t)
	h.keeper.issue(order("a", incarnation, &consumerv1.Command{CommandId: "one", Action: consumerv1.Action_ACTION_FROM_SEQUENCE, FromSequence: 2, DryRun: true, MaxBytesPerSecond: 1 << 20, Why: "drill"}))
	same("a reset", arrives(records, deliveryv1.Delivery_KIND_RESET), "08035a1c0a036f6e6510041a0612040801100220012880804032056472696c6c")
	same("the initiation of a bootstrap", arrives(open(t, c, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "orders"}, 4), deliveryv1.Delivery_KIND_BOOTSTRAP), "0802180128033a18080110031a10<sum>20037a290a20<id>1001400148<length>")
}

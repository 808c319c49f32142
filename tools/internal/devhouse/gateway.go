package devhouse

import (
	"time"

	"google.golang.org/grpc"

	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
)

// Consumers of a house have no other gateway to go to: nobody has to be waited for or spread.
const (
	drainTimeout = 2 * time.Second
	drainSpread  = 100 * time.Millisecond
)

func (h *House) newGateway(storage, consumers grpc.ClientConnInterface, bus *notify.Bus) (*gateway.Service, error) {
	return gateway.New(
		gateway.Config{
			Listener: h.listeners.gateway, WebSocketListener: h.listeners.gatewayWeb, Name: "dev", TokensFile: h.cfg.TokensFile,
			SnapshotDir: h.data.room("snapshots"), DrainTimeout: drainTimeout, DrainSpread: drainSpread,
		},
		gateway.Deps{Log: h.logOf("delivery-gateway"), Metrics: h.metricsOf("delivery-gateway"), Storage: storage, Consumers: consumers, Bus: bus})
}

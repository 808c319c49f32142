package devhouse

import (
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// startNATS runs a NATS server that has no port: the services connect to it inside the process.
func startNATS() (*server.Server, error) {
	s, err := server.NewServer(&server.Options{ServerName: "lockstep-dev", DontListen: true, NoSigs: true, NoLog: true, MaxPayload: 1 << 20})
	if err != nil {
		return nil, fault.New(fault.Internal, "the embedded NATS server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(5 * time.Second) {
		s.Shutdown()
		return nil, fault.New(fault.Internal, "the embedded NATS server did not start within 5 s")
	}
	return s, nil
}

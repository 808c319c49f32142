package devhouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Ports are the house's TCP ports on Host; 0 takes any free one.
type Ports struct {
	Ingest, IngestHTTP, Gateway, GatewayWeb, Consumers, Sequencer, Admin int
}

// DefaultPorts are where the commands look.
var DefaultPorts = Ports{Ingest: 7400, IngestHTTP: 7401, Gateway: 7410, GatewayWeb: 7411, Consumers: 7420, Sequencer: 7430, Admin: 7480}

// listeners are the ports, taken.
type listeners struct {
	ingest, ingestHTTP, gateway, gatewayWeb, consumers, sequencer, admin net.Listener
}

// listen takes every port or none (I3).
func listen(ctx context.Context, host string, p Ports) (*listeners, error) {
	l := new(listeners)
	for _, one := range []struct {
		to   *net.Listener
		port int
		flag string
	}{
		{&l.ingest, p.Ingest, "ingest-port"}, {&l.ingestHTTP, p.IngestHTTP, "ingest-http-port"},
		{&l.gateway, p.Gateway, "gateway-port"}, {&l.gatewayWeb, p.GatewayWeb, "gateway-websocket-port"},
		{&l.consumers, p.Consumers, "consumer-state-port"}, {&l.sequencer, p.Sequencer, "sequencer-port"}, {&l.admin, p.Admin, "admin-port"},
	} {
		address := net.JoinHostPort(host, strconv.Itoa(one.port))
		taken, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			l.close()
			if errors.Is(err, syscall.EADDRINUSE) {
				return nil, fault.New(fault.InUse, "port %d on %s is in use (is another `lockstep dev` running?); choose another with --%s, or any free ports with --free-ports", one.port, host, one.flag)
			}
			return nil, fault.New(fault.InvalidArgument, "--%s: cannot listen on %s: %w", one.flag, address, err)
		}
		*one.to = taken
	}
	return l, nil
}

func (l *listeners) close() {
	for _, one := range []net.Listener{l.ingest, l.ingestHTTP, l.gateway, l.gatewayWeb, l.consumers, l.sequencer, l.admin} {
		if one != nil {
			_ = one.Close() // nothing was accepted
		}
	}
}

// Addresses are where the running house can be reached.
type Addresses struct {
	Ingest    string `json:"ingest"`
	HTTP      string `json:"http"`
	Gateway   string `json:"gateway"`
	WebSocket string `json:"websocket"`
	Consumers string `json:"consumers"`
	Sequencer string `json:"sequencer"`
	Admin     string `json:"admin"`
	Data      string `json:"data"`
}

func (l *listeners) addresses(data string) Addresses {
	return Addresses{
		Ingest:    l.ingest.Addr().String(),
		HTTP:      "http://" + l.ingestHTTP.Addr().String(),
		Gateway:   "tcp://" + l.gateway.Addr().String(),
		WebSocket: fmt.Sprintf("ws://%s/rsocket", l.gatewayWeb.Addr()),
		Consumers: l.consumers.Addr().String(),
		Sequencer: l.sequencer.Addr().String(),
		Admin:     "http://" + l.admin.Addr().String(),
		Data:      data,
	}
}

package rsocket

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/rsocket/rsocket-go/core"
)

// Dial opens a connection to tcp://host:port, tls://host:port, ws://... or wss://... and sends
// SETUP. RSocket has no answer to SETUP but a refusal, so a nil error means sent: a refusal ends
// the connection, and requests fail with the *Error of the server.
func Dial(ctx context.Context, address string, cfg ClientConfig) (*Conn, error) {
	cfg = cfg.withDefaults()
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("rsocket: address %q: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	env := &environment{log: cfg.Logger}
	switch u.Scheme {
	case "tcp", "tls":
		if u.Port() == "" {
			return nil, fmt.Errorf("rsocket: address %q has no port", address)
		}
		conn, err := dialStream(ctx, u, cfg)
		if err != nil {
			return nil, fmt.Errorf("rsocket: dial %s: %w", address, err)
		}
		return startClient(newStreamWire(conn, cfg.ReadBufferMaxBytes, nil, true), conn.LocalAddr(), conn.RemoteAddr(), cfg, env)
	case "ws", "wss":
		w, err := dialWebSocket(ctx, u, cfg)
		if err != nil {
			return nil, fmt.Errorf("rsocket: dial %s: %w", address, err)
		}
		return startClient(w, w.conn.LocalAddr(), w.conn.RemoteAddr(), cfg, env)
	}
	return nil, fmt.Errorf("rsocket: address %q: scheme must be tcp, tls, ws or wss", address)
}

// NewClientConn makes a connection of conn, which it owns from here on, and sends SETUP.
func NewClientConn(conn net.Conn, cfg ClientConfig) (*Conn, error) {
	cfg = cfg.withDefaults()
	return startClient(newStreamWire(conn, cfg.ReadBufferMaxBytes, nil, true), conn.LocalAddr(), conn.RemoteAddr(), cfg, &environment{log: cfg.Logger})
}

func (c ClientConfig) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.DialContext != nil {
		return c.DialContext(ctx, network, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func dialStream(ctx context.Context, u *url.URL, cfg ClientConfig) (net.Conn, error) {
	conn, err := cfg.dial(ctx, "tcp", u.Host)
	if err != nil || u.Scheme == "tcp" {
		return conn, err
	}
	tlsConfig := &tls.Config{}
	if cfg.TLS != nil {
		tlsConfig = cfg.TLS.Clone()
	}
	if tlsConfig.ServerName == "" && !tlsConfig.InsecureSkipVerify {
		tlsConfig.ServerName = u.Hostname()
	}
	secured := tls.Client(conn, tlsConfig)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

// startClient queues SETUP and starts the reader.
func startClient(w wire, local, remote net.Addr, cfg ClientConfig, env *environment) (*Conn, error) {
	limits := cfg.Limits
	c := newConn(w, &limits, env, local, remote, true)
	c.responder, c.lifetime = cfg.Responder, cfg.Lifetime
	raw, err := appendSetup(make([]byte, lengthBytes), Setup{Version: ProtocolVersion, KeepaliveInterval: cfg.KeepaliveInterval,
		Lifetime: cfg.Lifetime, MetadataMIME: cfg.MetadataMIME, DataMIME: cfg.DataMIME, Payload: cfg.Setup})
	if err == nil && len(raw)-lengthBytes > FrameMaxBytes {
		err = ErrPayloadTooLarge
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("rsocket: SETUP: %w", err)
	}
	head := lengthBytes + core.FrameHeaderLen
	f := outFrame{headN: uint8(head), data: raw[head:]}
	copy(f.head[:], raw[:head])
	c.mu.Lock()
	c.pushLocked(f.sealed())
	c.pingInterval = cfg.KeepaliveInterval
	c.pingTimer = time.AfterFunc(cfg.KeepaliveInterval, c.ping)
	c.mu.Unlock()
	env.tasks.Add(1)
	go func() {
		defer env.tasks.Done()
		c.end(c.readLoop())
		c.teardown()
	}()
	return c, nil
}

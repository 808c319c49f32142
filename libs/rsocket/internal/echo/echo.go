// Package echo is the server that other RSocket libraries are tried against. It answers by the
// first word of a request's data and promises nothing to anyone else.
//
//	anything        is sent back, metadata too
//	error TEXT      ERROR[APPLICATION_ERROR] with the text
//	big N           N zero bytes
//	route           the route of the request's composite metadata
//	notes           how many fire-and-forgets have come
//	open            how many streams are open
//	stream N SIZE   (stream) N payloads of SIZE bytes, each beginning with its number in 8 bytes
//	endless SIZE    (stream) the same without end
package echo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
)

// Token is the bearer token that a SETUP with composite metadata must carry.
const Token = "t0ken"

// Server answers every connection the same way and counts across them.
type Server struct {
	Notes  atomic.Int64
	Open   atomic.Int64 // streams not yet closed
	Closed atomic.Int64 // connections that have ended
	// Accepted is called for every connection, if set.
	Accepted func(rsocket.Setup, *rsocket.Conn)
}

// Accept is the Acceptor: data "reject" is refused, and composite metadata without Token.
func (s *Server) Accept(_ context.Context, setup rsocket.Setup, conn *rsocket.Conn) (rsocket.Responder, error) {
	if string(setup.Payload.Data) == "reject" {
		return nil, errors.New("go away")
	}
	if setup.MetadataMIME == composite.MIME {
		entry, err := composite.Find(setup.Payload.Metadata, composite.MIMEAuthentication)
		if err != nil {
			return nil, err
		}
		auth, err := composite.ParseAuthentication(entry)
		if err != nil || auth.Type != composite.TypeBearer || auth.Token != Token {
			return nil, errors.New("unauthorized")
		}
	}
	if s.Accepted != nil {
		s.Accepted(setup, conn)
	}
	return responder{s}, nil
}

type responder struct{ *Server }

func (r responder) RequestResponse(_ context.Context, req rsocket.Payload) (rsocket.Payload, error) {
	word, arg, _ := strings.Cut(string(req.Data), " ")
	switch word {
	case "error":
		return rsocket.Payload{}, errors.New(arg)
	case "big":
		n, err := strconv.Atoi(arg)
		return rsocket.Payload{Data: make([]byte, n)}, err
	case "route":
		route, err := composite.Route(req.Metadata)
		return rsocket.Payload{Data: []byte(route)}, err
	case "notes":
		return rsocket.Payload{Data: fmt.Append(nil, r.Notes.Load())}, nil
	case "open":
		return rsocket.Payload{Data: fmt.Append(nil, r.Open.Load())}, nil
	}
	return req, nil
}

func (r responder) FireAndForget(rsocket.Payload) { r.Notes.Add(1) }

func (r responder) RequestStream(req rsocket.Payload, _ *rsocket.Outbound) (rsocket.Source, error) {
	words := append(strings.Fields(string(req.Data)), "", "", "")
	src := &numbers{server: r.Server, left: 1 << 62}
	size := words[1]
	switch words[0] {
	case "stream":
		n, err := strconv.Atoi(words[1])
		if err != nil || n < 1 {
			return nil, fmt.Errorf("stream of %q payloads", words[1])
		}
		src.left, size = n, words[2]
	case "endless":
	default:
		return nil, rsocket.Errorf(rsocket.CodeRejected, "no stream %q", words[0])
	}
	src.size, _ = strconv.Atoi(size)
	r.Open.Add(1)
	return src, nil
}

func (r responder) Closed(error) { r.Server.Closed.Add(1) }

type numbers struct {
	server     *Server
	left, size int
	sent       uint64
}

func (n *numbers) Next() (rsocket.Payload, rsocket.Signal) {
	data := make([]byte, max(8, n.size))
	binary.BigEndian.PutUint64(data, n.sent)
	n.sent++
	n.left--
	if n.left == 0 {
		return rsocket.Payload{Data: data}, rsocket.EmitAndComplete
	}
	return rsocket.Payload{Data: data}, rsocket.Emit
}

func (n *numbers) Requested(uint32) {}
func (n *numbers) Closed()          { n.server.Open.Add(-1) }

// Package envelope reads the standard composite metadata of requests and SETUP: the route, and the bearer token.
//
//	entry := type length payload
//	  type    0x80 | well-known id, or length-1 (7 bits) and the MIME type as text
//	  length  3 bytes, big endian
//	route := length (1 byte) text, the first tag of message/x.rsocket.routing.v0
//	token := 0x81 (well-known "bearer") and the token, in message/x.rsocket.authentication.v0
//
// Invariants:
//
//	I1  no byte beyond the metadata is read, whatever lengths it declares.
//	I2  entries of types not known here are passed over.
package envelope

import "github.com/lockstep-mq/lockstep/libs/message-common/fault"

const (
	wellKnown       = 0x80
	idAuthenticate  = 0x7C
	idRouting       = 0x7E
	mimeAuthenticat = "message/x.rsocket.authentication.v0"
	mimeRouting     = "message/x.rsocket.routing.v0"
	bearer          = 0x81
	bearerText      = "bearer"
)

// Route gives the route of a request.
func Route(metadata []byte) (string, error) {
	tags, err := find(metadata, idRouting, mimeRouting)
	if err != nil {
		return "", err
	}
	if len(tags) == 0 || len(tags) < 1+int(tags[0]) {
		return "", fault.New(fault.Malformed, "the request has no route in its metadata: send composite metadata with an entry of type %s", mimeRouting)
	}
	return string(tags[1 : 1+int(tags[0])]), nil
}

// Bearer gives the token in the metadata of SETUP, "" when there is none.
func Bearer(metadata []byte) (string, error) {
	auth, err := find(metadata, idAuthenticate, mimeAuthenticat)
	if err != nil || len(auth) == 0 {
		return "", err
	}
	switch n := int(auth[0]); {
	case auth[0] == bearer:
		return string(auth[1:]), nil
	case auth[0] < wellKnown && len(auth) > n+1 && string(auth[1:n+2]) == bearerText: // the type as text; its length is stored less one
		return string(auth[n+2:]), nil
	}
	return "", fault.New(fault.Unauthenticated, "the kind of credentials in SETUP is not known here: send a bearer token")
}

// find gives the payload of the first entry of a type; nil when there is none.
func find(metadata []byte, id byte, mime string) ([]byte, error) {
	for rest := metadata; len(rest) > 0; {
		head := rest[0]
		rest = rest[1:]
		match := head == wellKnown|id
		if head < wellKnown {
			n := int(head) + 1
			if n > len(rest) {
				return nil, malformed()
			}
			match = string(rest[:n]) == mime
			rest = rest[n:]
		}
		if len(rest) < 3 {
			return nil, malformed()
		}
		n := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		rest = rest[3:]
		if n > len(rest) {
			return nil, malformed()
		}
		if match {
			return rest[:n], nil
		}
		rest = rest[n:]
	}
	return nil, nil
}

func malformed() error {
	return fault.New(fault.Malformed, "the composite metadata is cut short")
}

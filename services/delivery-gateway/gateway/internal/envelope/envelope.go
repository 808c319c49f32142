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

import (
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
)

const (
	wellKnown  = 0x80
	bearer     = 0x81
	bearerText = "bearer"
)

// Route gives the route of a request.
func Route(metadata []byte) (string, error) {
	tags, err := find(metadata, composite.MIMERouting)
	if err != nil {
		return "", err
	}
	if len(tags) == 0 || len(tags) < 1+int(tags[0]) {
		return "", fault.New(fault.Malformed, "the request has no route in its metadata: send composite metadata with an entry of type %s", composite.MIMERouting)
	}
	return string(tags[1 : 1+int(tags[0])]), nil
}

// Bearer gives the token in the metadata of SETUP, "" when there is none.
func Bearer(metadata []byte) (string, error) {
	auth, err := find(metadata, composite.MIMEAuthentication)
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
func find(metadata []byte, mime string) ([]byte, error) {
	content, err := composite.Find(metadata, mime)
	if err != nil {
		return nil, malformed()
	}
	return content, nil
}

func malformed() error {
	return fault.New(fault.Malformed, "the composite metadata is cut short")
}

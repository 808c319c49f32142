// Package protocol is what a consumer and a gateway agree on before they say anything: versions, routes and limits.
//
// SETUP carries a Hello (api/delivery/v1) as data and, where the gateway asks for it, credentials in the standard authentication
// metadata. Every request carries its route in standard composite metadata, so that any RSocket client can speak it. The bodies are
// protobuf messages of api/delivery/v1.
//
// Invariants:
//
//	I1  a peer of the same major version and any minor one is served; both use what the lower minor knows; unknown fields are ignored.
//	I2  a peer of another major version is refused with a message that names both versions.
package protocol

import (
	"fmt"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Version of the protocol between consumers and gateways.
type Version struct{ Major, Minor uint32 }

// Current is what this code speaks.
var Current = Version{Major: 1, Minor: 0}

// String gives "major.minor".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Negotiate gives the version two peers use: the lower minor of their common major. Another major is refused (I2).
// theirs names the other side in the message: "the gateway", "consumer prices-7".
func Negotiate(mine, other Version, theirs string) (Version, error) {
	if mine.Major != other.Major {
		return Version{}, fault.New(fault.UnsupportedVersion, "%s speaks protocol %v and this side speaks %v: upgrade the older one",
			theirs, other, mine).With("theirs", other.String()).With("ours", mine.String())
	}
	return Version{Major: mine.Major, Minor: min(mine.Minor, other.Minor)}, nil
}

// Routes of requests.
const (
	RouteDescribe  = "lockstep.describe"  // request-response
	RouteAttach    = "lockstep.attach"    // request-response
	RouteDetach    = "lockstep.detach"    // request-response
	RouteSubscribe = "lockstep.subscribe" // request-stream without end
	RouteRange     = "lockstep.range"     // request-stream, bounded
	RouteSnapshot  = "lockstep.snapshot"  // request-stream: the manifest of a snapshot, when there is one
	RouteChunks    = "lockstep.chunks"    // request-stream: chunks of a snapshot as they are stored
	RouteChanges   = "lockstep.changes"   // request-stream: what changed since a sequence
	RouteSketch    = "lockstep.sketch"    // request-stream: coded symbols of a snapshot's rows
	RouteRows      = "lockstep.rows"      // request-stream: rows by their element IDs
	RouteAck       = "lockstep.ack"       // fire-and-forget, or request-response to have it confirmed
	RouteStatus    = "lockstep.status"    // fire-and-forget
)

// MIME types given in SETUP.
const (
	MetadataMIME = "message/x.rsocket.composite-metadata.v0"
	DataMIME     = "application/x-protobuf"
)

// Limits.
const (
	// MaxDeliveryBytes is the largest payload a gateway sends: one largest batch and its metadata; it fits one RSocket frame.
	MaxDeliveryBytes = 8 << 20
	// MaxRequestBytes is the largest request a gateway takes.
	MaxRequestBytes = 1 << 20
	// MaxRowsAsked is the largest number of element IDs in one request for rows.
	MaxRowsAsked = 64 << 10
)

// Package route writes and reads the route of a request as RSocket's standard composite metadata carries it:
//
//	entry := 0x80|id length(3) payload      with a well-known MIME type, or
//	         (length-1) MIME length(3) payload
//
// A route is the first tag of the first entry of type message/x.rsocket.routing.v0 (id 0x7E): one length byte, then the text.
package route

// routing is message/x.rsocket.routing.v0 among the well-known MIME types.
const (
	wellKnown = 0x80
	routing   = 0x7E
	// maxBytes is what one length byte of a tag can say.
	maxBytes = 255
)

// Encode gives the composite metadata of a request to route, which has at most 255 bytes.
func Encode(route string) []byte {
	n := min(len(route), maxBytes)
	b := make([]byte, 0, 5+n)
	b = append(b, wellKnown|routing, 0, byte((n+1)>>8), byte(n+1), byte(n))
	return append(b, route[:n]...)
}

// Decode finds the route in composite metadata; ok is false when there is none or the bytes are malformed.
func Decode(metadata []byte) (route string, ok bool) {
	for len(metadata) > 0 {
		id := metadata[0]
		metadata = metadata[1:]
		if id&wellKnown == 0 {
			n := int(id) + 1
			if n > len(metadata) {
				return "", false
			}
			metadata = metadata[n:]
		}
		if len(metadata) < 3 {
			return "", false
		}
		n := int(metadata[0])<<16 | int(metadata[1])<<8 | int(metadata[2])
		metadata = metadata[3:]
		if n > len(metadata) {
			return "", false
		}
		entry := metadata[:n]
		metadata = metadata[n:]
		if id == wellKnown|routing {
			if len(entry) == 0 || int(entry[0]) > len(entry)-1 {
				return "", false
			}
			return string(entry[1 : 1+int(entry[0])]), true
		}
	}
	return "", false
}

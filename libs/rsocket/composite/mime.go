package composite

import "fmt"

// known is the protocol's table of MIME types by id (RSocket extension "well-known MIME types").
var known = map[uint8]string{
	0x00: "application/avro",
	0x01: "application/cbor",
	0x02: "application/graphql",
	0x03: "application/gzip",
	0x04: "application/javascript",
	0x05: "application/json",
	0x06: "application/octet-stream",
	0x07: "application/pdf",
	0x08: "application/vnd.apache.thrift.binary",
	0x09: "application/vnd.google.protobuf",
	0x0a: "application/xml",
	0x0b: "application/zip",
	0x0c: "audio/aac",
	0x0d: "audio/mp3",
	0x0e: "audio/mp4",
	0x0f: "audio/mpeg3",
	0x10: "audio/mpeg",
	0x11: "audio/ogg",
	0x12: "audio/opus",
	0x13: "audio/vorbis",
	0x14: "image/bmp",
	0x15: "image/gif",
	0x16: "image/heic-sequence",
	0x17: "image/heic",
	0x18: "image/heif-sequence",
	0x19: "image/heif",
	0x1a: "image/jpeg",
	0x1b: "image/png",
	0x1c: "image/tiff",
	0x1d: "multipart/mixed",
	0x1e: "text/css",
	0x1f: "text/csv",
	0x20: "text/html",
	0x21: "text/plain",
	0x22: "text/xml",
	0x23: "video/H264",
	0x24: "video/H265",
	0x25: "video/VP8",
	0x26: "application/x-hessian",
	0x27: "application/x-java-object",
	0x28: "application/cloudevents+json",
	0x7a: "message/x.rsocket.mime-type.v0",
	0x7b: "message/x.rsocket.accept-mime-types.v0",
	0x7c: "message/x.rsocket.authentication.v0",
	0x7d: "message/x.rsocket.tracing-zipkin.v0",
	0x7e: "message/x.rsocket.routing.v0",
	0x7f: "message/x.rsocket.composite-metadata.v0",
}

var knownIDs = func() map[string]uint8 {
	ids := make(map[string]uint8, len(known))
	for id, name := range known {
		ids[name] = id
	}
	return ids
}()

func knownName(id uint8) string {
	if name, ok := known[id]; ok {
		return name
	}
	return fmt.Sprintf("unknown/%d", id)
}

func knownID(name string) (uint8, bool) {
	id, ok := knownIDs[name]
	return id, ok
}

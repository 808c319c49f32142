// Package web is ingest over HTTP, for programs without a client library.
//
//	POST /v1/streams/{stream}/records
//
//	Content-Type                          body
//	application/x-ndjson                  one record a line: {"key":"a","value":ANY JSON,"headers":{"n":"text"},"time_ms":0,"tombstone":false}
//	application/jsonl                     the same
//	application/json                      one such record, on as many lines as it likes
//	application/cloudevents+json          one CloudEvent, structured
//	application/cloudevents-batch+json    an array of them
//	any, with a ce-specversion header     one CloudEvent, binary
//
// A value is kept byte for byte as written. Of a CloudEvent the value is its data; its attributes become headers "ce-<name>", its
// datacontenttype the header "content-type"; its time is the record's time. Its key is the extension partitionkey, else the
// subject, else the id. Structured and binary mode make the same record.
//
// The answer is one JSON line a record, in order: {"line":1,"partition":0,"epoch":1,"sequence":42} or {"line":2,"fault":{...}};
// CloudEvents have "event" and "id" instead of "line". Its status is 200 when all records are stored, 207 when some are, and the status
// of the fault when none is or the request was refused as a whole: 400 malformed, 404 unknown stream, 413 too large, 422 schema, 429
// overloaded, 503 unavailable, 504 unknown outcome, 507 disk full. 429, 503 and 507 carry Retry-After.
//
// Invariants:
//
//	I1  every record of a request that was not refused as a whole has one line in the answer; a malformed line does not hold up others.
//	I2  a body is read whole, at most Config.MaxBodyBytes, and all bodies in work are at most Config.TotalBytes; beyond that 429.
//	I3  a form a browser may post to another site without asking (text/plain, form data) is refused.
package web

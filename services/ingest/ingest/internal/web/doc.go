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
// A post that may be sent again names its producer, the epoch that POST /v1/producers/{producer} gave it, and which producer sequence
// the body's first record has; the others follow on, a record that is refused too. The headers belong together:
//
//	POST /v1/producers/till-7  ──▶  {"producer_id":"till-7","producer_epoch":1}      fences older epochs of the id
//	Lockstep-Producer-Id: till-7      Lockstep-Producer-Epoch: 1      Lockstep-Producer-Sequence: 1
//
// With a tokens file the header Authorization: Bearer is asked for.
//
// The answer is one JSON line a record, in order: {"line":1,"partition":0,"epoch":1,"sequence":42} or {"line":2,"fault":{...}};
// CloudEvents have "event" and "id" instead of "line"; a record that was stored by an earlier post has "duplicate":true. Its status is 200 when all records are stored, 207 when some are, and the status
// of the fault when none is or the request was refused as a whole: 400 malformed, 401 no known token, 403 no grant, 404 unknown stream,
// 409 fenced or out of order, 413 too large, 422 schema, 429
// overloaded, 503 unavailable, 504 unknown outcome, 507 disk full. 429, 503 and 507 carry Retry-After.
//
// Invariants:
//
//	I1  every record of a request that was not refused as a whole has one line in the answer; a malformed line does not hold up others.
//	I2  a body is read whole, at most Config.MaxBodyBytes, and all bodies in work are at most Config.TotalBytes; beyond that 429.
//	I3  a form a browser may post to another site without asking (text/plain, form data) is refused.
//	I4  a post repeated under the same producer id, epoch and sequence is stored once and answered with the same sequences (S4).
//	I5  a post of somebody without the right to publish is refused before its body is read.
package web

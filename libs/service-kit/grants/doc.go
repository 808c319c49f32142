// Package grants says what the bearer of a token may do with which streams (S12). Ingest, the gateway and consumer-state read the same
// file.
//
// A tokens file has one grant a line; empty lines and lines that begin with # are passed over:
//
//	<token> <stream>[,<stream>...] [<right>[,<right>...]]
//
// A stream is a name, a name that ends in * (any rest), or * alone. Rights are read, publish and manage (create and delete); without any a
// line grants read. A token may stand on several lines, and may be given as sha256:<64 hexadecimal digits> of itself, so that the file
// does not hold it.
//
//	file ──▶ page (what it says now) ◀── Book ──Admit(token)──▶ Pass ──Check(right, stream)
//	          looked at every LookInterval      └─Watch: who is told when a Pass no longer holds
//
// Invariants:
//
//	I1  without a file everybody may do everything, and the log says so at the start; with one, nobody without a listed token is admitted.
//	I2  tokens are kept and compared as SHA-256 only, and never appear in an error or a log.
//	I3  a Pass is judged by what the file says now: a grant that is taken away ends at most LookInterval later.
//	I4  a file that cannot be read or parsed changes nothing: the last good page holds, and the log says so, once for each new content.
package grants

// Package messagecommon is the vocabulary of Lockstep: what everyone who touches a record must agree on, and nothing else.
//
//	lane      names and numbers: stream, partition, sequence, epoch, position
//	record    one record and its encoding inside a batch body
//	batch     the unit that is written, fsynced, cached and delivered; encoded once
//	state     rows and tombstones of the state (latest value per key) as they travel
//	snapshot  the state at one sequence as immutable chunks and a manifest
//	sketch    finds the rows in which two states differ
//	digest    the set hash that proves a state
//	fault     how every boundary refuses
//	protocol  routes, versions and limits between a consumer and a gateway
//	pause     the wait between two tries
//
// It is pure Go and light: the consumer SDK imports it. It does not know files, sockets, gRPC or protobuf.
package messagecommon

// Package messagecommon is the vocabulary of Lockstep: what everyone who touches a record must agree on, and nothing else.
//
//	lane      names and numbers: stream, partition, sequence, epoch, position
//	record    one record and its encoding inside a batch body
//	batch     the unit that is written, fsynced, cached and delivered; encoded once
//	state     rows of the state (latest value per key) as they travel in a bootstrap
//	digest    the set hash that proves a state
//	fault     how every boundary refuses
//	protocol  routes, versions and limits between a consumer and a gateway
//
// It is pure Go and light: the consumer SDK imports it. It does not know files, sockets, gRPC or protobuf.
package messagecommon

package fault

// Reason is a stable word for why something was refused. It is itself an error so that errors.Is can compare with it.
type Reason string

// Error gives the reason's word.
func (r Reason) Error() string { return string(r) }

// What the caller sent cannot be taken; sending it again will not help.
const (
	InvalidArgument    Reason = "invalid_argument"
	InvalidName        Reason = "invalid_name"
	UnknownStream      Reason = "unknown_stream"
	UnknownConsumer    Reason = "unknown_consumer"
	StreamExists       Reason = "stream_exists"
	NotKeyed           Reason = "not_keyed"           // a state was asked of a stream without keys
	KeyMissing         Reason = "key_missing"         // a keyed stream needs one
	RecordTooLarge     Reason = "record_too_large"    // key, value, headers or their sum
	SchemaMismatch     Reason = "schema_mismatch"     // the value breaks the stream's JSON Schema
	UnsupportedVersion Reason = "unsupported_version" // names both sides' versions
	Unauthenticated    Reason = "unauthenticated"
	NotPermitted       Reason = "not_permitted"
	Malformed          Reason = "malformed" // bytes that do not decode
)

// The caller was overtaken; it must begin anew.
const (
	ProducerFenced Reason = "producer_fenced" // a newer producer epoch exists
	OutOfOrder     Reason = "out_of_order"    // a producer sequence below one already stored, and not stored itself
	ConsumerFenced Reason = "consumer_fenced" // a newer incarnation exists
	Expired        Reason = "expired"         // details head, from: records [from, head) are gone
	AheadOfTail    Reason = "ahead_of_tail"   // a position the lane never reached
	EpochMismatch  Reason = "epoch_mismatch"  // the lane's history was cut; detail epoch
	SnapshotGone   Reason = "snapshot_gone"   // the snapshot that was named is not kept any more; ask for another
)

// Try again later; nothing was written unless the reason says otherwise.
const (
	Overloaded     Reason = "overloaded"      // a bound was reached; detail retry_after_ms
	Unavailable    Reason = "unavailable"     // a service cannot be reached or is stopping
	UnknownOutcome Reason = "unknown_outcome" // it may or may not have been written; retry under the same producer sequence
	DiskFull       Reason = "disk_full"       // appends are refused, deliveries go on
)

// An operator is needed.
const (
	Corrupt     Reason = "corrupt"      // bytes on disk fail their checksum
	LaneStopped Reason = "lane_stopped" // a lane refuses work to protect what was acknowledged
	ForeignData Reason = "foreign_data" // a directory or file belongs to something else
	InUse       Reason = "in_use"       // a directory, file or port is held by another process
	Internal    Reason = "internal"
)

// Temporary reports whether the same request may succeed later without a change by the caller.
func (r Reason) Temporary() bool {
	switch r {
	case Overloaded, Unavailable, UnknownOutcome, DiskFull:
		return true
	}
	return false
}

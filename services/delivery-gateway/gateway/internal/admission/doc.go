// Package admission says who may resynchronise now, and how fast all together.
//
//	request ──▶ Places: free, or already ours? ──▶ piece by piece: Bucket, first come first served ──▶ consumer
//	               │ no
//	               └▶ Overloaded, retry_after_ms: when its turn may come, if all who were refused come back when they were told to
//
// Invariants:
//
//	I1  at most the limit of distinct keys have a place; a key that has one gets it again, MaxUsers times at once, so that streams of one
//	    purpose count once.
//	I2  retry_after_ms grows with those refused before, is never the same for two of them but by chance, and at most maxRetry.
//	I3  over any stretch of time at most rate × time + burst bytes pass a Bucket; who waits is served in the order of asking, and since
//	    everybody asks for one piece at a time, everybody gets as many turns.
//	I4  while something is sent to live tails, a Bucket's rate falls, down to a tenth, as long as timers come late: then tails would wait
//	    for a processor. With no tails it does not.
package admission

// Package catchup reads what is older than a feed's ring: from memory, from the shared cache, from storage, in that order.
//
//	At(lane, seq) ── block in memory? ── yes ──▶ parcel
//	                       │ no
//	                       ▼
//	        one load per aligned stretch of a lane ──▶ shared cache ──▶ storage Read      (bounded workers)
//	                       │
//	                       └──▶ block kept for all, everyone who waits is woken and asks again
//
// Blocks end at multiples of BlockRecords, so readers that began anywhere soon ask for the same blocks.
//
// Invariants:
//
//	I1  readers that want the same stretch at the same time cause one load.
//	I2  at most Workers loads run; blocks in memory hold at most MaxBytes, and each load at most BlockBytes and one batch more.
//	I3  a block is contiguous, and holds the sequence it was loaded for.
//	I4  a temporary failure is retried with back-off for as long as somebody waits; any other is told to those who wait.
//	I5  nothing is kept per reader but a place in the list of those who wait.
package catchup

// Package consumer follows the records of a stream, with or without keys, from a place of your choice.
//
//	c, err := consumer.Open(consumer.Config{Stream: "orders", Gateways: []string{"tcp://127.0.0.1:7410"}, ConsumerID: "mailer"})
//	defer c.Close()
//	for rec, err := range c.Records(ctx) {
//		if err != nil {
//			return err // *consumer.Expired when records were lost to retention, unless Config.OnLoss chose to go on behind them
//		}
//		send(rec)
//		c.Ack(rec)
//	}
//
// With a ConsumerID the provider keeps a cursor: what was acknowledged is not delivered again to the next process of that name.
// Without one nobody remembers.
//
// Invariants:
//
//	I1  fresh records of a partition come as previous + 1, whatever connections do meanwhile; a gap is read from the log, and what is
//	    lost is told as *Expired or *HistoryCut, never passed over unless Config.OnLoss was told and chose that.
//	I2  an acknowledgement covers everything of its partition up to its record; it is sent after Ack, at most every ackEvery, and
//	    once more, confirmed, when the loop ends.
//	I3  memory is bounded: credit per partition and inboxBatches decoded batches. A slow loop slows its sender.
//	I4  a command of the provider to take records again from a sequence or a time is done once for its id: the loop goes on there, the
//	    provider's cursors move back with it, and what was given before carries Redelivered. What has expired is left out, and the
//	    report says so.
package consumer

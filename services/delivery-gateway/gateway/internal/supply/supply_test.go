package supply_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/supply"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// end records what a connection is told.
type end struct {
	wakes     int
	completed bool
	failed    error
}

func (e *end) Wake()          { e.wakes++ }
func (e *end) Complete()      { e.completed = true }
func (e *end) Fail(err error) { e.failed = err }

func piece(n byte) rsocket.Payload { return rsocket.Payload{Data: []byte{n}} }

func TestTheMakerWaitsAndTheLastPieceCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &end{}
		s := supply.New(t.Context(), out)
		offered := 0
		go s.Make(func(context.Context) error {
			for n := range byte(10) {
				if err := s.Offer(piece(n)); err != nil {
					return err
				}
				offered++
			}
			return nil
		})
		for n := range byte(10) {
			synctest.Wait()
			if ahead := offered - int(n); ahead > supply.ReadAhead {
				t.Fatalf("%d pieces are ready", ahead)
			}
			p, signal := s.Next()
			if p.Data[0] != n || (signal == rsocket.EmitAndComplete) != (n == 9) {
				t.Fatalf("piece %d: %v, signal %v", n, p.Data, signal)
			}
		}
		synctest.Wait()
		if out.failed != nil || s.Context().Err() == nil {
			t.Fatalf("failed %v, context %v", out.failed, s.Context().Err())
		}
	})
}

func TestAnEmptyOneCompletesWithoutCredit(t *testing.T) {
	out := &end{}
	supply.New(t.Context(), out).Make(func(context.Context) error { return nil })
	if !out.completed || out.failed != nil {
		t.Fatalf("%+v", out)
	}
}

func TestWhoTakesNothingLosesThePlace(t *testing.T) {
	for name, pieces := range map[string]int{"more to come": supply.ReadAhead + 1, "all is ready": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &end{}
				s := supply.New(t.Context(), out)
				began := time.Now()
				s.Make(func(context.Context) error {
					for range pieces {
						if err := s.Offer(piece(1)); err != nil {
							return err
						}
					}
					return nil
				})
				if !errors.Is(out.failed, fault.Overloaded) || time.Since(began) != supply.StallTimeout {
					t.Fatalf("after %v: %v", time.Since(began), out.failed)
				}
			})
		})
	}
}

func TestStatusesAreDroppedRatherThanWaitedFor(t *testing.T) {
	s := supply.New(t.Context(), &end{})
	for n := range byte(100) {
		s.OfferStatus(piece(n))
	}
	if err := s.Offer(piece(200)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for {
		p, signal := s.Next()
		if signal == rsocket.Wait {
			break
		}
		got = append(got, p.Data[0])
	}
	if len(got) != supply.ReadAhead || got[len(got)-1] != 200 {
		t.Fatalf("got %v", got)
	}
	s.Closed()
}

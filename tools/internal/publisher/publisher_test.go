package publisher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// ingest answers Publish by script: one function per call, the last one for ever.
type ingest struct {
	ingestv1.IngestClient
	script   []func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error)
	requests []*ingestv1.PublishRequest
}

func (i *ingest) OpenProducer(context.Context, *ingestv1.OpenProducerRequest, ...grpc.CallOption) (*ingestv1.OpenProducerResponse, error) {
	return &ingestv1.OpenProducerResponse{ProducerId: "p", ProducerEpoch: 3}, nil
}

func (i *ingest) Publish(_ context.Context, r *ingestv1.PublishRequest, _ ...grpc.CallOption) (*ingestv1.PublishResponse, error) {
	i.requests = append(i.requests, proto.Clone(r).(*ingestv1.PublishRequest))
	answer := i.script[min(len(i.requests), len(i.script))-1]
	return answer(r)
}

func stored(first uint64) func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
	return func(r *ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
		return &ingestv1.PublishResponse{Outcomes: []*ingestv1.Outcome{{Count: uint32(len(r.GetRecords())), Epoch: 1, FirstSequence: first}}}, nil
	}
}

func failed(reason fault.Reason) func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
	return func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
		return nil, fault.New(reason, "scripted")
	}
}

// partly answers the first record with a place and the others with reason.
func partly(reason fault.Reason) func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
	return func(r *ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
		return &ingestv1.PublishResponse{Outcomes: []*ingestv1.Outcome{
			{Count: 1, Epoch: 1, FirstSequence: 7},
			{Count: uint32(len(r.GetRecords()) - 1), Fault: &streamv1.Fault{Reason: string(reason), Message: "scripted"}},
		}}, nil
	}
}

func open(t *testing.T, i *ingest) *Publisher {
	t.Helper()
	p, err := Open(t.Context(), i, Config{Stream: "s", GiveUpAfter: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var three = []*ingestv1.Record{{Key: "a"}, {Key: "b"}, {Key: "c"}}

// I1, I2: a request whose fate is open, whole or in part, is repeated as it was; the next one follows on.
func TestRepeatsUnderTheSameSequences(t *testing.T) {
	for _, open1 := range []func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error){
		failed(fault.UnknownOutcome), failed(fault.Unavailable), failed(fault.Overloaded), partly(fault.Unavailable), partly(fault.DiskFull),
	} {
		synctest.Test(t, func(t *testing.T) {
			i := &ingest{script: []func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error){open1, open1, stored(7), stored(10)}}
			p := open(t, i)
			fates, err := p.Publish(t.Context(), three)
			if err != nil || len(fates) != 3 || fates[2].At.Sequence != 9 {
				t.Fatalf("fates %v, %v", fates, err)
			}
			if _, err := p.Publish(t.Context(), three); err != nil {
				t.Fatal(err)
			}
			if len(i.requests) != 4 || !proto.Equal(i.requests[0], i.requests[1]) || !proto.Equal(i.requests[0], i.requests[2]) {
				t.Fatalf("the request was not repeated as it was: %v", i.requests)
			}
			if first := i.requests[3].GetFirstProducerSequence(); first != 4 {
				t.Fatalf("the next request begins at producer sequence %d, not 4", first)
			}
		})
	}
}

// A refusal that a retry cannot mend is a fate of its record, and the others keep theirs.
func TestRefusalsAreFates(t *testing.T) {
	i := &ingest{script: []func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error){partly(fault.SchemaMismatch)}}
	fates, err := open(t, i).Publish(t.Context(), three)
	if err != nil || fates[0].Fault != nil || fates[0].At.Sequence != 7 || !errors.Is(fates[1].Fault, fault.SchemaMismatch) || fates[2].Fault == nil {
		t.Fatalf("fates %v, %v", fates, err)
	}
}

// I3: retrying ends, with the last reason; a refusal of the whole request ends it at once.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := open(t, &ingest{script: []func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error){failed(fault.DiskFull)}}).Publish(t.Context(), three)
		if !errors.Is(err, fault.DiskFull) {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 13*time.Second {
			t.Fatalf("gave up after %v", took)
		}
		began = time.Now()
		_, err = open(t, &ingest{script: []func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error){failed(fault.ProducerFenced)}}).Publish(t.Context(), three)
		if !errors.Is(err, fault.ProducerFenced) || time.Since(began) > 0 {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
	})
}

// An answer for another number of records is not taken for an answer.
func TestCountsAnswers(t *testing.T) {
	short := func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
		return &ingestv1.PublishResponse{Outcomes: []*ingestv1.Outcome{{Count: 2, Epoch: 1, FirstSequence: 1}}}, nil
	}
	if _, err := open(t, &ingest{script: []func(*ingestv1.PublishRequest) (*ingestv1.PublishResponse, error){short}}).Publish(t.Context(), three); !errors.Is(err, fault.Internal) {
		t.Fatal(err)
	}
}

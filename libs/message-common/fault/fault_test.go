package fault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

func TestFaultSurvivesJSON(t *testing.T) {
	sent := fault.New(fault.Expired, "records [%d, %d) are gone", 1, 9).With("head", "9").With("from", "1")
	data, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Errorf("subscribing: %w", fault.Parse(data))
	if !errors.Is(got, fault.Expired) || errors.Is(got, fault.Corrupt) || fault.Of(got).Detail("head") != "9" || fault.Of(got).Error() != sent.Error() {
		t.Fatalf("got %v %v", got, fault.Of(got).Details())
	}
}

func TestForeignTextBecomesInternal(t *testing.T) {
	for _, text := range []string{"", "boom", "{", "{}", `{"message":"x"}`, string(make([]byte, fault.MaxWireBytes+1))} {
		if f := fault.Parse([]byte(text)); f.Reason() != fault.Internal {
			t.Errorf("%.20q: got %v", text, f.Reason())
		}
	}
}

func TestCauseAndSharing(t *testing.T) {
	f := fault.New(fault.Unavailable, "reading: %w", io.ErrUnexpectedEOF)
	if !errors.Is(f, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	one := f.With("a", "1")
	two := one.With("b", "2")
	if f.Detail("a") != "" || one.Detail("b") != "" || two.Detail("a") != "1" {
		t.Error("With changed the fault it was called on")
	}
	if fault.ReasonOf(nil) != "" || fault.ReasonOf(io.EOF) != fault.Internal {
		t.Error("ReasonOf")
	}
}

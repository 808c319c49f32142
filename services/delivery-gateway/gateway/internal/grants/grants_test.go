package grants_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/grants"
)

func TestGrants(t *testing.T) {
	text := fmt.Sprintf("# readers\n\none orders,pri*\none extra\nall *\nsha256:%x hidden\n", sha256.Sum256([]byte("two")))
	b, err := grants.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, stream string
		want          error
	}{
		{"one", "orders", nil}, {"one", "prices", nil}, {"one", "extra", nil}, {"one", "orders2", fault.NotPermitted}, {"one", "hidden", fault.NotPermitted},
		{"all", "anything", nil}, {"two", "hidden", nil}, {"two", "orders", fault.NotPermitted},
		{"", "orders", fault.Unauthenticated}, {"three", "orders", fault.Unauthenticated},
		{strings.Fields(strings.Split(text, "\n")[5])[0], "hidden", fault.Unauthenticated}, // the digest is not the token
	} {
		g, err := b.Of(c.token)
		if err == nil {
			err = g.Check(lane.StreamName(c.stream))
		}
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%q for %q: %v, want %v", c.token, c.stream, err, c.want)
		}
		if err != nil && c.token != "" && strings.Contains(err.Error(), c.token) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
	if g, err := (*grants.Book)(nil).Of(""); err != nil || g.Check("orders") != nil {
		t.Errorf("without a file: %v", err)
	}
	for _, bad := range []string{"token\n", "token a b\n", "token bad/name\n", "sha256:12 a\n", "token a,,b\n"} {
		if _, err := grants.Parse([]byte("# one\n" + bad)); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

package grants

import (
	"slices"
	"strings"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Pass is what a caller came in with. It is judged anew at every question (I3). The zero Pass has no right to anything.
type Pass struct {
	book *Book
	key  digest
}

// grants gives what the token has now; everything is open when there is no file, which is nil without an error.
func (p Pass) grants() ([]grant, error) {
	if p.book == nil {
		return nil, fault.New(fault.Unauthenticated, "nobody was admitted")
	}
	now := p.book.page.Load()
	if now == nil {
		return nil, nil
	}
	given, known := (*now)[p.key]
	if !known {
		return nil, fault.New(fault.Unauthenticated, "the bearer token is not known here")
	}
	return given, nil
}

func (p Pass) open() bool { return p.book != nil && p.book.page.Load() == nil }

// has reports whether one of the grants that count has a right.
func (p Pass) has(right Right, counts func(*grant) bool) (bool, error) {
	if p.open() {
		return true, nil
	}
	given, err := p.grants()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(given, func(g grant) bool { return g.rights&right != 0 && counts(&g) }), nil
}

// Check refuses what was not granted, whether or not the stream exists.
func (p Pass) Check(right Right, stream lane.StreamName) error {
	has, err := p.has(right, func(g *grant) bool { return g.covers(stream) })
	if err != nil || has {
		return err
	}
	return fault.New(fault.NotPermitted, "your token does not grant the right to %v stream %.100q: ask for a grant", right, stream)
}

// Anywhere refuses who has a right to no stream at all.
func (p Pass) Anywhere(right Right) error {
	has, err := p.has(right, func(*grant) bool { return true })
	if err != nil || has {
		return err
	}
	return fault.New(fault.NotPermitted, "your token does not grant the right to %v any stream: ask for a grant", right)
}

// Sees reports whether the caller may know that a stream exists: it has any right to it.
func (p Pass) Sees(stream lane.StreamName) bool { return p.Check(Read|Publish|Manage, stream) == nil }

// Bearer gives the token of an HTTP or gRPC Authorization value, "" for an empty one.
func Bearer(authorization string) (string, error) {
	if authorization == "" {
		return "", nil
	}
	scheme, token, ok := strings.Cut(authorization, " ")
	token = strings.TrimSpace(token)
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", fault.New(fault.Unauthenticated, "the authorization is not of the form `Bearer <token>`")
	}
	return token, nil
}

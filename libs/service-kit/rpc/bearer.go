package rpc

import (
	"context"

	"google.golang.org/grpc/metadata"
)

const authorizationKey = "authorization"

// bearer is a token as gRPC wants it.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{authorizationKey: "Bearer " + string(b)}, nil
}

// RequireTransportSecurity: loopback and trusted networks are plain text.
func (b bearer) RequireTransportSecurity() bool { return false }

// Authorization gives the authorization a call came with, "" when there is none. Of several, the first counts.
func Authorization(ctx context.Context) string {
	if texts := metadata.ValueFromIncomingContext(ctx, authorizationKey); len(texts) > 0 {
		return texts[0]
	}
	return ""
}

package composite

import "fmt"

// Authentication is the content of an authentication entry: a bearer token, or a user and its
// password, or bytes of a type of one's own.
type Authentication struct {
	// Type is "bearer", "simple" or a name of one's own.
	Type string
	// Token belongs to "bearer".
	Token string
	// User and Password belong to "simple".
	User, Password string
	// Raw is the content of any other type; it aliases the metadata.
	Raw []byte
}

const (
	TypeSimple = "simple"
	TypeBearer = "bearer"

	simpleID = 0
	bearerID = 1
)

// AppendBearer adds an authentication entry with a token.
func AppendBearer(dst []byte, token string) ([]byte, error) {
	return Append(dst, MIMEAuthentication, append([]byte{mimeKnownFlag | bearerID}, token...))
}

// AppendSimple adds an authentication entry with a user of at most 65,535 bytes and a password.
func AppendSimple(dst []byte, user, password string) ([]byte, error) {
	if len(user) > 1<<16-1 {
		return dst, fmt.Errorf("composite metadata: user of %d bytes is above %d", len(user), 1<<16-1)
	}
	content := []byte{mimeKnownFlag | simpleID, byte(len(user) >> 8), byte(len(user))}
	return Append(dst, MIMEAuthentication, append(append(content, user...), password...))
}

// ParseAuthentication reads the content of an authentication entry.
func ParseAuthentication(content []byte) (Authentication, error) {
	if len(content) == 0 {
		return Authentication{}, fmt.Errorf("%w: empty authentication", ErrMalformed)
	}
	first := content[0]
	content = content[1:]
	if first&mimeKnownFlag == 0 {
		n := int(first) + 1
		if len(content) < n {
			return Authentication{}, fmt.Errorf("%w: authentication type cut short", ErrMalformed)
		}
		return Authentication{Type: string(content[:n]), Raw: content[n:]}, nil
	}
	switch id := first &^ mimeKnownFlag; id {
	case bearerID:
		return Authentication{Type: TypeBearer, Token: string(content)}, nil
	case simpleID:
		if len(content) < 2 {
			return Authentication{}, fmt.Errorf("%w: user cut short", ErrMalformed)
		}
		n := int(content[0])<<8 | int(content[1])
		content = content[2:]
		if len(content) < n {
			return Authentication{}, fmt.Errorf("%w: user cut short", ErrMalformed)
		}
		return Authentication{Type: TypeSimple, User: string(content[:n]), Password: string(content[n:])}, nil
	default:
		return Authentication{}, fmt.Errorf("%w: authentication type id 0x%02x is not known", ErrMalformed, id)
	}
}

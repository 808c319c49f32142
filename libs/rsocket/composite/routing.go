package composite

import "fmt"

const tagMaxBytes = 255

// AppendRoute adds a routing entry. Each tag is at most 255 bytes; the first is the route.
func AppendRoute(dst []byte, tags ...string) ([]byte, error) {
	var content []byte
	for _, tag := range tags {
		if len(tag) > tagMaxBytes {
			return dst, fmt.Errorf("composite metadata: route tag of %d bytes is above %d", len(tag), tagMaxBytes)
		}
		content = append(content, byte(len(tag)))
		content = append(content, tag...)
	}
	return Append(dst, MIMERouting, content)
}

// ParseRoute reads the content of a routing entry.
func ParseRoute(content []byte) (tags []string, err error) {
	for len(content) > 0 {
		n := int(content[0])
		if len(content) < 1+n {
			return nil, fmt.Errorf("%w: route tag cut short", ErrMalformed)
		}
		tags = append(tags, string(content[1:1+n]))
		content = content[1+n:]
	}
	return tags, nil
}

// Route finds the route of metadata b: the first tag of its first routing entry, "" if it has none.
func Route(b []byte) (string, error) {
	for e, err := range Entries(b) {
		if err != nil {
			return "", err
		}
		if e.MIME == MIMERouting {
			tags, err := ParseRoute(e.Content)
			if err != nil || len(tags) == 0 {
				return "", err
			}
			return tags[0], nil
		}
	}
	return "", nil
}

// Find returns the content of the first entry of a MIME type, nil if there is none.
func Find(b []byte, mime string) ([]byte, error) {
	for e, err := range Entries(b) {
		if err != nil {
			return nil, err
		}
		if e.MIME == mime {
			if e.Content == nil {
				return []byte{}, nil
			}
			return e.Content, nil
		}
	}
	return nil, nil
}

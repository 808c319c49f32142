// Package schema checks values against a stream's JSON Schema (draft 2020-12 unless the schema names another).
//
// The one place that knows the schema library. A schema stands alone: references to files or addresses are refused, so that nobody
// who may create a stream can make this process read or call anything.
package schema

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// MaxBytes bounds the text of a schema.
const MaxBytes = 256 << 10

// Schema is a compiled schema. A nil Schema takes every value. Safe for concurrent use.
type Schema struct{ compiled *jsonschema.Schema }

// Compile reads a schema; the empty text gives nil. Faults: InvalidArgument.
func Compile(text string) (*Schema, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > MaxBytes {
		return nil, fault.New(fault.InvalidArgument, "the JSON Schema is %d bytes; at most %d are allowed", len(text), MaxBytes)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the JSON Schema is not JSON: %w", err)
	}
	const place = "stream:///schema"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(refusing{})
	if err := c.AddResource(place, document); err != nil {
		return nil, fault.New(fault.InvalidArgument, "the JSON Schema cannot be used: %w", err)
	}
	compiled, err := c.Compile(place)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the JSON Schema does not compile: %w", err)
	}
	return &Schema{compiled}, nil
}

type refusing struct{}

func (refusing) Load(url string) (any, error) {
	return nil, fmt.Errorf("references to other documents (%s) are not followed; put the definition into $defs", url)
}

// Check returns a fault with reason fault.SchemaMismatch that names the places that are wrong, unless value is JSON that satisfies s.
func (s *Schema) Check(value []byte) error {
	if s == nil {
		return nil
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return fault.New(fault.SchemaMismatch, "the value is not JSON, and the stream has a schema: %w", err)
	}
	err = s.compiled.Validate(document)
	if err == nil {
		return nil
	}
	var wrong *jsonschema.ValidationError
	if !errors.As(err, &wrong) {
		return fault.New(fault.SchemaMismatch, "the value does not satisfy the stream's schema: %w", err)
	}
	return fault.New(fault.SchemaMismatch, "the value does not satisfy the stream's schema: %.500s", leaves(wrong))
}

// leaves tells the innermost causes, at most three.
func leaves(e *jsonschema.ValidationError) string {
	var told []string
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(told) >= 3 {
			return
		}
		if len(e.Causes) == 0 {
			told = append(told, e.Error())
			return
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	walk(e)
	return strings.Join(told, "; ")
}

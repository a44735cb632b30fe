package kafka

import (
	"fmt"
	"reflect"
)

const (
	// maxDecoded is what one request may take while its service waits: far more than any has that a client of good will sends, and a small part of the room.
	maxDecoded = decodeBytes / 16
	// mapEntryBytes is about what an entry of a map takes beyond what it refers to.
	mapEntryBytes = 64
)

// weigh is for services that need their request for as long as they wait: for etcd, a lookup or room. Before the request was decoded nobody knew what it
// would take, and room was taken for the worst. From now on the call holds what the request takes, and nothing of the room for frames. An error ends the
// connection: the request takes more than maxDecoded.
func (k *call) weigh() (err error) {
	if k.decoded == nil && k.share == nil {
		return nil // it is one of those that are counted nowhere
	}
	bytes := memoryOf(reflect.ValueOf(k.request)) + int64(cap(k.rest)) // of which it may share a part
	if bytes > maxDecoded {
		return fmt.Errorf("%w: %s version %d that takes %d bytes of memory; %d are the most", errFrame, k.api.name, k.version, bytes, maxDecoded)
	}
	if k.decoded != nil {
		k.decoded.Shrink(bytes)
	} else if k.decoded, err = k.conn.server.decode.Take(k.conn.ctx, bytes, nil); err != nil {
		return err
	}
	k.frame.release(k.conn)
	return nil
}

// memoryOf is about how many bytes a value refers to.
func memoryOf(v reflect.Value) (bytes int64) {
	switch v.Kind() {
	case reflect.String:
		return int64(v.Len())
	case reflect.Pointer:
		if !v.IsNil() {
			bytes = int64(v.Type().Elem().Size()) + memoryOf(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			bytes += memoryOf(field)
		}
	case reflect.Slice:
		bytes = int64(v.Cap()) * int64(v.Type().Elem().Size())
		if refers(v.Type().Elem().Kind()) {
			for n := range v.Len() {
				bytes += memoryOf(v.Index(n))
			}
		}
	case reflect.Map:
		for each := v.MapRange(); each.Next(); {
			bytes += mapEntryBytes + memoryOf(each.Key()) + memoryOf(each.Value())
		}
	default: // a number
	}
	return bytes
}

// refers tells whether a value of a kind may refer to others.
func refers(kind reflect.Kind) bool {
	switch kind {
	case reflect.String, reflect.Pointer, reflect.Struct, reflect.Slice, reflect.Map:
		return true
	default:
		return false
	}
}

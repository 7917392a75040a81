package replica

import (
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/firstseen/firstseen/schema"
)

// DecodeRecord reads an object and verifies that it is the one that a row names, or else returns ErrDamaged.
func DecodeRecord(stored []byte, object schema.Hash) (*schema.ShippedRecord, error) {
	body, err := decompress(stored, MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	r, err := parseRecord(body, object)
	if err != nil {
		return nil, fmt.Errorf("decode record: %w: %w", ErrDamaged, err)
	}
	return r, nil
}

// openRecord returns a record's JSON.
func openRecord(stored []byte, object schema.Hash) ([]byte, error) {
	body, err := decompress(stored, MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	if err := isObject(body, object); err != nil {
		return nil, fmt.Errorf("decode record: %w: %w", ErrDamaged, err)
	}
	return body, nil
}

func isObject(body []byte, object schema.Hash) error {
	if sum := schema.Hash(sha256.Sum256(body)); sum != object {
		return fmt.Errorf("record hashes to %s, the row names %s", sum, object)
	}
	return nil
}

func parseRecord(body []byte, object schema.Hash) (*schema.ShippedRecord, error) {
	if err := isObject(body, object); err != nil {
		return nil, err
	}
	r := &schema.ShippedRecord{}
	if err := strictly(body, r); err != nil {
		return nil, fmt.Errorf("record %s: %w", object, err)
	}
	return r, nil
}

// compressor and decompressor are made once: both are safe for concurrent use and hold no state between calls.
var (
	compressor = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderCRC(true), zstd.WithZeroFrames(true))
	})
	decompressor = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(MaxSegment), zstd.WithDecoderMaxWindow(32<<20))
	})
)

func compress(text []byte) ([]byte, error) {
	encoder, err := compressor()
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return encoder.EncodeAll(text, nil), nil
}

// decompress reads a frame that has a checksum, as compress writes them.
func decompress(stored []byte, most uint64) ([]byte, error) {
	var head zstd.Header
	if err := head.Decode(stored); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !head.HasCheckSum || head.Skippable {
		return nil, fmt.Errorf("%w: a frame without checksum", ErrDamaged)
	}
	if head.FrameContentSize > most { // 0 where it does not say
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrDamaged, head.FrameContentSize, most)
	}
	decoder, err := decompressor()
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	text, err := decoder.DecodeAll(stored, make([]byte, 0, head.FrameContentSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if size := uint64(len(text)); size > most || head.HasFCS && size != head.FrameContentSize {
		return nil, fmt.Errorf("%w: %d bytes where it says %d, and at most %d are read", ErrDamaged, size,
			head.FrameContentSize, most)
	}
	return text, nil
}

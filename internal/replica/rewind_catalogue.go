package replica

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// MoveObjects is what moving a replica reads of an object store; internal/objects says what its methods promise.
type MoveObjects interface {
	Get(ctx context.Context, key string) (body []byte, tag string, err error)
	List(ctx context.Context, prefix, after string, limit int) ([]string, error)
}

// catalogue looks up what one role has shipped.
type catalogue struct {
	Names
	objects MoveObjects
}

// telling is a block as a role's headers tell of it.
type telling struct {
	schema.Point
	seq uint64 // of the row that added it
}

// listed is how many keys are asked for at once.
const listed = 1000

// from lists the headers of a chain from a height upward, in the order of heights and seqs. There is one key for each
// block, and a request for each thousand of them.
func (s catalogue) from(ctx context.Context, chain, height uint64) ([]telling, error) {
	prefix, after := s.HeaderPrefix(chain), s.HeaderHeight(chain, height)
	var out []telling
	for {
		keys, err := s.objects.List(ctx, prefix, after, listed)
		if err != nil {
			return nil, fmt.Errorf("list headers of chain %d that %s shipped: %w", chain, s.Role, err)
		}
		for _, key := range keys {
			t, err := s.telling(chain, key)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
		}
		if len(keys) < listed {
			return out, nil
		}
		after = keys[len(keys)-1]
	}
}

func (s catalogue) telling(chain uint64, name string) (telling, error) {
	number, seq, key, err := s.ParseHeader(chain, name)
	if err != nil {
		return telling{}, err
	}
	hash, err := key.Hash()
	return telling{schema.Point{Number: number, Hash: hash}, seq}, err
}

// firstTold is the block of those that was told first.
func firstTold(headers []telling) telling {
	return slices.MinFunc(headers, func(a, b telling) int { return cmp.Compare(a.seq, b.seq) })
}

// checkpoint reads how far the role has shipped; nil if it never did.
func (s catalogue) checkpoint(ctx context.Context) (*Checkpoint, error) {
	body, _, err := s.objects.Get(ctx, s.Writer())
	if errors.Is(err, objects.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint of %s: %w", s.Role, err)
	}
	c, err := DecodeCheckpoint(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Writer(), err)
	}
	return &c, nil
}

// start is a place between two segments, where a follower can begin.
type start struct {
	seq  uint64 // the last row before it
	link schema.Hash
}

// startFor finds the place before the segment that holds the row after seq: rows are fetched by segments only, and
// which one comes next is known by the last row of the one before. Where that row is not shipped yet, the place is the
// end of what is.
func (s catalogue) startFor(ctx context.Context, seq uint64) (start, error) {
	if seq == 0 {
		return start{}, nil
	}
	end, err := s.checkpoint(ctx)
	if err != nil {
		return start{}, err
	}
	if end != nil && end.Seq == seq {
		return start{end.Seq, end.Link}, nil
	}
	key, err := s.holding(ctx, seq+1)
	if err != nil {
		return start{}, err
	}
	body, _, err := s.objects.Get(ctx, key)
	if err != nil {
		return start{}, fmt.Errorf("read the segment with row %d of %s: %w", seq+1, s.Role, err)
	}
	h, err := headOf(body)
	if err != nil {
		return start{}, fmt.Errorf("%s: %w", key, err)
	}
	if h.Env == s.Env && h.Role == s.Role && h.Last == seq { // the checkpoint is about to be written
		return start{h.Last, h.Link}, nil
	}
	if h.Env != s.Env || h.Role != s.Role || h.First > seq+1 || h.Last < seq+1 {
		return start{}, fmt.Errorf("%s: %w: it holds rows %d to %d of %s/%s", key, ErrDamaged, h.First, h.Last, h.Env, h.Role)
	}
	return start{h.First - 1, h.Prev}, nil
}

// holding is the key of the segment that holds a row: a bulk one, as the index tells, or the last live one that begins no
// later.
func (s catalogue) holding(ctx context.Context, seq uint64) (string, error) {
	index := &Index{}
	body, _, err := s.objects.Get(ctx, s.Index())
	if err == nil {
		index, err = DecodeIndex(body)
	}
	if err != nil && !errors.Is(err, objects.ErrNotFound) {
		return "", fmt.Errorf("read the index of %s: %w", s.Role, err)
	}
	if bulk, ok := index.Find(seq); ok {
		return s.Bulk(bulk.First), nil
	}
	last, after := "", s.Feed(index.End())
	for {
		keys, err := s.objects.List(ctx, s.FeedPrefix(), after, listed)
		if err != nil {
			return "", fmt.Errorf("list segments of %s: %w", s.Role, err)
		}
		for _, key := range keys {
			if key > s.Feed(seq) {
				break
			}
			last = key
		}
		if len(keys) < listed || keys[len(keys)-1] > s.Feed(seq) {
			break
		}
		after = keys[len(keys)-1]
	}
	if last == "" {
		return "", fmt.Errorf("no segment of %s holds row %d: %w", s.Role, seq, objects.ErrNotFound)
	}
	return last, nil
}

// maxHead bounds the first line of a segment.
const maxHead = 64 << 10

// headOf reads what a segment says of itself without the rest of it, which may be large. Whoever follows on from there
// verifies it all.
func headOf(stored []byte) (Head, error) {
	var h Head
	d, err := zstd.NewReader(bytes.NewReader(stored), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxSegment))
	if err != nil {
		return h, fmt.Errorf("start zstd: %w", err)
	}
	defer d.Close()
	line, err := bufio.NewReaderSize(d, maxHead).ReadSlice('\n')
	if err != nil {
		return h, fmt.Errorf("head of segment: %w: %w", ErrDamaged, err)
	}
	if err := strictly(line, &h); err != nil {
		return h, fmt.Errorf("head of segment: %w: %w", ErrDamaged, err)
	}
	if h.Format != Format {
		return h, fmt.Errorf("head of segment: %w: format %d", ErrDamaged, h.Format)
	}
	return h, nil
}

package chain

import (
	"errors"
	"testing"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"
)

func TestLogsBloomIsTheHeadersOwn(t *testing.T) {
	t.Parallel()
	h := &types.Header{Extra: make([]byte, 100)}
	for i := range byte(40) {
		h.Bloom.Add([]byte{i})
	}
	raw, err := rlp.EncodeToBytes(h)
	if err != nil {
		t.Fatal(err)
	}
	bloom, err := LogsBloom(raw)
	if err != nil || types.BytesToBloom(bloom) != h.Bloom {
		t.Fatalf("%x %v", bloom, err)
	}
	for i := range byte(255) {
		if got, want := BitsOf([]byte{i}).In(bloom), h.Bloom.Test([]byte{i}); got != want {
			t.Errorf("value %d: %v, go-ethereum says %v", i, got, want)
		}
	}
	for _, bad := range [][]byte{nil, {0xc0}, raw[:200], {0xc7, 1, 2, 3, 4, 5, 6, 7}, []byte("text")} {
		if _, err := LogsBloom(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

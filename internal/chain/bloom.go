package chain

import (
	"fmt"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"
)

// bloomItem is the place of the logs' filter in a header's list, the same on all chains that ReadHeader reads.
const bloomItem = 6

// LogsBloom returns the filter over a block's logs (Yellow Paper, section 4.3.1) from its header in RLP, without a copy.
// What is no header with one gives ErrMalformed.
func LogsBloom(header []byte) ([]byte, error) {
	items, _, err := rlp.SplitList(header)
	for range bloomItem {
		if err == nil {
			_, _, items, err = rlp.Split(items)
		}
	}
	var bloom []byte
	if err == nil {
		bloom, _, err = rlp.SplitString(items)
	}
	if err != nil || len(bloom) != types.BloomByteLength {
		return nil, fmt.Errorf("%w: header without a filter of logs", ErrMalformed)
	}
	return bloom, nil
}

// BloomBits are the bits that a value sets in a filter of logs: three, of which some may be the same.
type BloomBits []bloomBit

type bloomBit struct {
	at   int
	mask byte
}

// BitsOf returns the bits of an address or a topic.
func BitsOf(value []byte) BloomBits {
	var one types.Bloom
	one.Add(value)
	var bits BloomBits
	for at, mask := range one {
		if mask != 0 {
			bits = append(bits, bloomBit{at, mask})
		}
	}
	return bits
}

// In tells whether a log of the block may have the value; false is certain. The filter must be LogsBloom's.
func (b BloomBits) In(bloom []byte) bool {
	for _, bit := range b {
		if bloom[bit.at]&bit.mask != bit.mask {
			return false
		}
	}
	return true
}

// Package chain reads what Ethereum nodes say about blocks and proves the part that can be proved: a header is
// believed only after its Keccak-256 has been recomputed from its RLP. In production it is the one package that knows
// go-ethereum's types of blocks; everyone else speaks schema's words.
package chain

import (
	"errors"

	"github.com/firstseen/firstseen/schema"
)

// MaxHeader is the largest header RLP that is read, in bytes. Mainnet's are below 1 KiB; signer lists in the extra
// data of proof-of-authority chains are what needs more.
const MaxHeader = 16 << 10

var (
	// ErrMalformed reports input that is not what it should be: broken JSON, RLP that is not canonical, a field that
	// is missing or out of range.
	ErrMalformed = errors.New("malformed")
	// ErrHashMismatch reports a block whose header does not hash to what the node calls it.
	ErrHashMismatch = errors.New("block hash does not match its header")
	// ErrNoBlock reports a null answer: the node has no such block.
	ErrNoBlock = errors.New("no such block")
	// ErrReceipts reports receipts that do not belong to the block they were asked for.
	ErrReceipts = errors.New("receipts do not match their block")
)

// Block is a block whose header hash was recomputed, with the RLP that proves it. Its transactions remain the node's
// claim.
type Block struct {
	schema.Block
	HeaderRLP []byte

	Raw schema.RawBlock // what the node answered; for whoever fetches the block to keep, or not
}

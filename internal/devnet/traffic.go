package devnet

import (
	"crypto/ecdsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
)

// counterCode deploys a contract that counts: called without data it adds one to slot 0 and logs the new value, called
// with data it reverts.
var counterCode = hexutil.MustDecode("0x" +
	"6019600a5f3960195ff3" + // copy the 25 bytes below to memory and return them
	"36601557" + // any call data? then jump to the revert
	"5f54600101805f55" + // slot 0 += 1, keeping the new value
	"5f52600160205fa100" + // log it under topic 1; stop
	"5b5f5ffd") // revert

// deployEvery is how many blocks lie between two contract creations; the first block always has one.
const deployEvery = 8

// traffic writes the transactions of a block: plain transfers of either kind, contract creations, a call that
// succeeds and one that fails. Same seed, same parent, same salt: same transactions.
type traffic struct {
	keys      []*ecdsa.PrivateKey
	signer    types.Signer
	seed      uint64
	transfers int
}

// batch collects the transactions of one block.
type batch struct {
	*traffic
	nonce func(common.Address) uint64 // the parent state's
	used  map[int]uint64              // nonces taken in this block, by account
	rng   *rand.Rand
	txs   []*types.Transaction
}

func (t *traffic) block(parent *types.Header, salt uint64, nonce func(common.Address) uint64) ([]*types.Transaction, error) {
	hash := parent.Hash()
	b := &batch{
		traffic: t, nonce: nonce, used: make(map[int]uint64),
		rng: rand.New(rand.NewPCG(t.seed^salt, binary.BigEndian.Uint64(hash[:8]))),
	}
	number := parent.Number.Uint64() + 1
	counter := crypto.CreateAddress(t.address(0), 0)
	if number%deployEvery == 1 {
		if err := b.add(0, nil, 0, 200_000, counterCode); err != nil {
			return nil, err
		}
	}
	for range t.transfers {
		to := t.address(b.rng.IntN(accounts))
		if err := b.add(1+b.rng.IntN(accounts-1), &to, 1+b.rng.Uint64N(params.GWei), params.TxGas, nil); err != nil {
			return nil, err
		}
	}
	if err := b.add(0, &counter, 0, 100_000, nil); err != nil {
		return nil, err
	}
	if err := b.add(1, &counter, 0, 100_000, []byte("revert")); err != nil {
		return nil, err
	}
	return b.txs, nil
}

func (t *traffic) address(account int) common.Address {
	return crypto.PubkeyToAddress(t.keys[account].PublicKey)
}

// add signs a transaction, alternating between the legacy kind and EIP-1559's.
func (b *batch) add(from int, to *common.Address, wei, gas uint64, input []byte) error {
	nonce := b.nonce(b.address(from)) + b.used[from]
	b.used[from]++
	price := big.NewInt(20 * params.GWei)
	var inner types.TxData = &types.LegacyTx{
		Nonce: nonce, To: to, Value: new(big.Int).SetUint64(wei), Gas: gas, GasPrice: price, Data: input,
	}
	if len(b.txs)%2 == 1 {
		inner = &types.DynamicFeeTx{
			ChainID: b.signer.ChainID(), Nonce: nonce, To: to, Value: new(big.Int).SetUint64(wei), Gas: gas,
			GasTipCap: big.NewInt(params.GWei), GasFeeCap: price, Data: input,
		}
	}
	tx, err := types.SignNewTx(b.keys[from], b.signer, inner)
	if err != nil {
		return fmt.Errorf("sign transaction: %w", err)
	}
	b.txs = append(b.txs, tx)
	return nil
}

package devnet

import (
	"crypto/ecdsa"
	"encoding/binary"
	"maps"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
)

const (
	defaultChainID = 1337
	gasLimit       = 30_000_000
	accounts       = 6
)

// newGenesis describes a chain that is past the merge and on every fork up to Prague from its first block on, with the
// accounts that sign the traffic funded.
func newGenesis(chainID uint64, start time.Time, keys []*ecdsa.PrivateKey) *core.Genesis {
	config := *params.AllDevChainProtocolChanges
	config.ChainID = new(big.Int).SetUint64(chainID)
	config.OsakaTime, config.BogotaTime = nil, nil

	alloc := core.SystemContractAllocs()
	rich := new(big.Int).Mul(big.NewInt(1_000_000), big.NewInt(params.Ether))
	maps.Copy(alloc, fund(keys, rich))
	return &core.Genesis{
		Config:     &config,
		Timestamp:  uint64(start.Unix()),
		GasLimit:   gasLimit,
		BaseFee:    big.NewInt(params.InitialBaseFee),
		Difficulty: new(big.Int),
		Alloc:      alloc,
	}
}

func fund(keys []*ecdsa.PrivateKey, wei *big.Int) types.GenesisAlloc {
	alloc := make(types.GenesisAlloc, len(keys))
	for _, key := range keys {
		alloc[crypto.PubkeyToAddress(key.PublicKey)] = types.Account{Balance: wei}
	}
	return alloc
}

// newKeys derives the accounts from the seed, so that the same seed signs the same transactions.
func newKeys(seed uint64) []*ecdsa.PrivateKey {
	keys := make([]*ecdsa.PrivateKey, 0, accounts)
	for i := uint64(0); len(keys) < accounts; i++ {
		digest := mix("account", seed, i)
		// Almost every 32 bytes are a valid key; the few that are not are passed over.
		if key, err := crypto.ToECDSA(digest[:]); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// mix is a hash of a purpose and some numbers: the source of everything that only has to look random.
func mix(purpose string, numbers ...uint64) common.Hash {
	text := append([]byte("firstseen devnet "), purpose...)
	for _, n := range numbers {
		text = binary.BigEndian.AppendUint64(text, n)
	}
	return crypto.Keccak256Hash(text)
}

package templates

import (
	"fmt"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// maxTransactions is how many transactions of a block a template sees. With it the embedded templates stay below
// maxOutput however many there are, so that no block goes unstored for its size.
const maxTransactions = 3000

// view is what a template sees of a block; the package's documentation is its specification. It has no methods on
// purpose: a template could call them.
type view struct {
	Chain, Number           uint64
	Hash, Parent, StateRoot string
	Timestamp               int64
	Time                    string
	FeeRecipient            string
	GasLimit, GasUsed       uint64
	BaseFee                 string
	ExtraData, ExtraText    string
	TransactionCount        int
	Transactions            []transaction
}

// transaction leaves out what comes from receipts.
type transaction struct {
	Index                 uint32
	Hash, From, To, Value string
}

func newView(b *schema.Block) (*view, error) {
	if b.BaseFee != "" && !decimal(b.BaseFee) {
		return nil, fmt.Errorf("base fee %.80q is not a decimal number", b.BaseFee)
	}
	v := &view{
		Chain: b.Chain, Number: b.Number,
		Hash: b.Hash.String(), Parent: b.Parent.String(), StateRoot: b.StateRoot.String(),
		Timestamp: b.Time.Unix(), Time: timeText(b.Time),
		FeeRecipient: b.FeeRecipient.String(),
		GasLimit:     b.GasLimit, GasUsed: b.GasUsed, BaseFee: b.BaseFee,
		ExtraData: b.ExtraData.String(), ExtraText: printable(b.ExtraData),
		TransactionCount: len(b.Transactions),
		Transactions:     make([]transaction, min(len(b.Transactions), maxTransactions)),
	}
	for i := range v.Transactions {
		tx := &b.Transactions[i]
		if !decimal(tx.Value) {
			return nil, fmt.Errorf("value %.80q of transaction %d is not a decimal number", tx.Value, i)
		}
		v.Transactions[i] = transaction{
			Index: tx.Index, Hash: tx.Hash.String(), From: tx.From.String(), Value: tx.Value,
		}
		if tx.To != nil {
			v.Transactions[i].To = tx.To.String()
		}
	}
	return v, nil
}

// decimal tells whether s is a canonical decimal number of at most 78 digits, the length of 2^256.
func decimal(s string) bool {
	if len(s) == 0 || len(s) > 78 || len(s) > 1 && s[0] == '0' {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// printable maps chain data to text that no terminal, browser or editor takes for anything but text of its own
// length: html/template lets invalid UTF-8 and bidirectional overrides through, text/template everything.
func printable(data []byte) string {
	text := make([]byte, len(data))
	for i, c := range data {
		if c < ' ' || c > '~' {
			c = '.'
		}
		text[i] = c
	}
	return string(text)
}

// timeText is t in a form that other languages' clocks can print too; their years end at 9999.
func timeText(t time.Time) string {
	t = t.UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return ""
	}
	return t.Format("2006-01-02T15:04:05Z")
}

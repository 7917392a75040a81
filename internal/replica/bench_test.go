package replica

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

// benchSegment is a bulk segment of blocks with so many transactions each, and a payload that names them as the default
// template does.
func benchSegment(blocks, transactions int) *Segment {
	random := rand.NewChaCha8([32]byte{1})
	fill := func(b []byte) { _, _ = random.Read(b) }
	s := &Segment{Head: Head{Env: "bench", Role: "primary", Epoch: 1, Source: "s", First: 1, At: testTime}}
	for i := range blocks {
		row := blockRow(uint64(i)+1, uint64(i), 3)
		row.Record.Key = schema.Hash(sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))).Key()
		row.Event.Key = row.Record.Key
		row.Record.Header = make([]byte, 600)
		fill(row.Record.Header)
		row.Record.Transactions, row.Record.Raw, row.Record.Payload = nil, nil, nil
		for k := range transactions {
			tx := schema.Transaction{Index: uint32(k), To: new(schema.Address), Value: fmt.Sprint(random.Uint64())}
			fill(tx.Hash[:])
			fill(tx.From[:])
			fill(tx.To[:])
			row.Record.Transactions = append(row.Record.Transactions, tx)
			row.Record.Payload = fmt.Appendf(row.Record.Payload, "<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", tx.Hash, tx.From, tx.To, tx.Value)
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}

func BenchmarkSegment(b *testing.B) {
	for _, transactions := range []int{0, 10, 150} {
		s := benchSegment(500, transactions)
		stored := encoded(b, s)
		text := segmentText(b, stored)
		report := func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportMetric(float64(b.N*len(s.Rows))/b.Elapsed().Seconds(), "blocks/s")
			b.ReportMetric(float64(len(stored))/float64(len(s.Rows)), "B/block")
		}
		b.Run(fmt.Sprintf("encode/%dtx", transactions), func(b *testing.B) {
			for b.Loop() {
				for i := range s.Rows {
					s.Rows[i].body = nil
				}
				encoded(b, s)
			}
			report(b)
		})
		b.Run(fmt.Sprintf("decode/%dtx", transactions), func(b *testing.B) {
			for b.Loop() {
				if _, err := DecodeSegment(stored); err != nil {
					b.Fatal(err)
				}
			}
			report(b)
		})
		b.Run(fmt.Sprintf("decompress/%dtx", transactions), func(b *testing.B) {
			for b.Loop() {
				segmentText(b, stored)
			}
			report(b)
		})
	}
}

package spool

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

// BenchmarkAppend measures durable appends of 450-byte frames, acked as they come, to a file in the temporary folder: one
// at a time, in batches by one caller, and one at a time by several callers who share transactions.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ callers, batch int }{{1, 1}, {1, 32}, {1, 128}, {16, 1}, {128, 1}} {
		b.Run(fmt.Sprintf("callers=%d/batch=%d", c.callers, c.batch), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "spool"), Options{})
			var all sync.WaitGroup
			b.ResetTimer()
			for range c.callers {
				all.Go(func() {
					batch := make([]Block, c.batch)
					for i := range batch {
						batch[i] = block(uint64(i), 450)
					}
					for range max(1, b.N/c.callers/c.batch) {
						if _, err := s.Append(batch); err != nil {
							b.Error(err)
						}
						s.mu.Lock()
						last := s.last
						s.mu.Unlock()
						s.Ack(last)
					}
				})
			}
			all.Wait()
			b.StopTimer()
			done := float64(max(1, b.N/c.callers/c.batch) * c.callers * c.batch)
			b.ReportMetric(done/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(s.Counts().Commits)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// BenchmarkOffer measures new records of 450 bytes from 16 writers, each with at most 256 offers unanswered.
func BenchmarkOffer(b *testing.B) {
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": sqliteDSN, "mysql": testenv.MySQL} {
		for _, kind := range []string{"bare", "block"} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				dsn := dsn(b)
				migrated(b, dsn)
				benchmarkOffers(b, running(b, opened(b, Options{DSN: dsn})), kind)
			})
		}
	}
}

func benchmarkOffers(b *testing.B, s *Store, kind string) {
	const writers, window = 16, 256
	b.ReportAllocs()
	took := make([]time.Duration, b.N)
	var all sync.WaitGroup
	var next sync.Mutex
	n := 0
	take := func() int {
		next.Lock()
		defer next.Unlock()
		n++
		return n - 1
	}
	b.ResetTimer()
	for w := range writers {
		all.Go(func() {
			var open sync.WaitGroup
			free := make(chan struct{}, window)
			for i := take(); i < b.N; i = take() {
				free <- struct{}{}
				open.Add(1)
				start := time.Now()
				err := s.Offer(b.Context(), benchmarkOffer(kind, w, i), func(answer schema.Settlement) {
					took[i] = time.Since(start)
					if answer.Outcome != schema.First {
						b.Error(answer)
					}
					<-free
					open.Done()
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
			open.Wait()
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "offers/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
}

func benchmarkOffer(kind string, writer, i int) *schema.Offer {
	payload := fmt.Sprintf("%-450s", fmt.Sprintf("<p>%d</p>%s", i, strings.Repeat("x", 400)))
	if kind == "bare" {
		return bareOffer(payload)
	}
	o := blockOffer(fmt.Sprint("observer-", writer), uint64(i), fmt.Sprint("a", i), fmt.Sprint("a", i-1))
	o.Payload = []byte(payload)
	return o
}

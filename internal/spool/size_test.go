package spool

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestFileStaysInProportion fills a spool again and again with frames of sizes that suit its pages badly, emptying it
// by parts, and looks at the file.
func TestFileStaysInProportion(t *testing.T) {
	t.Parallel()
	const most = 16 << 20
	for name, size := range map[string]func(r *rand.Rand) int{
		"a little over half a page": func(*rand.Rand) int { return 2100 },
		"a little over a page":      func(*rand.Rand) int { return 4200 },
		"mixed":                     func(r *rand.Rand) int { return 100 + r.IntN(150_000) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 1))
			path := filepath.Join(t.TempDir(), "spool")
			s := open(t, path, Options{MaxBytes: most})
			n := uint64(1)
			for range 5 {
				for {
					var batch []Block
					for range 32 {
						batch = append(batch, block(n+uint64(len(batch)), size(r)))
					}
					taken, err := s.Append(batch)
					n += uint64(taken)
					if errors.Is(err, ErrFull) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				waits, _, _ := s.Depth()
				e, _ := s.After(0)
				s.Ack(e.Seq + uint64(waits)*9/10)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.1f bytes of file for each of the bound", float64(info.Size())/most)
			if info.Size() > maxFile(most) {
				t.Errorf("%d bytes, at most %d", info.Size(), maxFile(most))
			}
		})
	}
}

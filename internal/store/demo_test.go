package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

func TestADemosDatabaseIsReadByID(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(testing.TB) string{"sqlite": sqliteDSN, "mysql": testenv.MySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := make(t)
			if _, err := OpenDemo(t.Context(), dsn); err == nil || !strings.Contains(err.Error(), "no table ethereum_data") {
				t.Fatalf("without its table: %v", err)
			}
			s := opened(t, Options{DSN: dsn})
			for _, statement := range []string{
				"CREATE TABLE ethereum_data (id INTEGER PRIMARY KEY, hash VARCHAR(64) UNIQUE, payload TEXT)",
				"INSERT INTO ethereum_data VALUES (3, 'c', 'it''s C'), (1, 'a', 'A'), (7, NULL, NULL)",
			} {
				if err := s.db.Exec(statement).Error; err != nil {
					t.Fatal(err)
				}
			}
			d, err := OpenDemo(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			got, err := d.Rows(t.Context(), 0, 2)
			if d := cmp.Diff([]DemoRow{{1, "a", []byte("A")}, {3, "c", []byte("it's C")}}, got); err != nil || d != "" {
				t.Fatal(err, d)
			}
			if got, err = d.Rows(t.Context(), 3, 2); err != nil || fmt.Sprint(got) != "[{7  []}]" {
				t.Fatal(got, err)
			}
		})
	}
}

func TestClientsAreAddedOnceForEachSource(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		counts := []schema.ClientCount{{IP: "192.0.2.9", Count: 5}, {IP: "10.0.0.1", Count: 2}}
		for _, step := range []struct {
			source string
			added  bool
		}{{"a", true}, {"a", false}, {"b", true}} {
			if added, err := s.AddClients(t.Context(), step.source, counts); err != nil || added != step.added {
				t.Fatalf("%s: %t, %v", step.source, added, err)
			}
		}
		got, err := s.Clients(t.Context(), 10)
		if d := cmp.Diff([]schema.ClientCount{{IP: "10.0.0.1", Count: 4}, {IP: "192.0.2.9", Count: 10}}, got); err != nil || d != "" {
			t.Fatal(err, d)
		}
		if added, err := s.AddClients(t.Context(), "none", nil); err != nil || !added {
			t.Fatal(added, err)
		}
	})
}

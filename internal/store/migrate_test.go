package store

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

func TestMigrationsMayRunAtOnceAndAgain(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(testing.TB) string{
		"sqlite": sqliteDSN, "memory": func(testing.TB) string { return "memory" }, "mysql": testenv.MySQL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const writers = 4
			dsn := dsn(t)
			var stores [writers]*Store
			for i := range stores {
				stores[i] = opened(t, Options{DSN: dsn})
				if err := stores[i].Ready(t.Context()); !errors.Is(err, ErrNotMigrated) {
					t.Fatalf("Ready before Migrate: %v", err)
				}
			}
			var migrating sync.WaitGroup
			for _, s := range stores {
				for range 2 {
					migrating.Go(func() {
						if err := s.Migrate(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
			}
			migrating.Wait()
			for _, s := range stores {
				if err := s.Ready(t.Context()); err != nil {
					t.Error(err)
				}
			}
			var applied []int64
			err := stores[0].db.Table("goose_db_version").Where("version_id > 0").Order("id").Pluck("version_id", &applied).Error
			once := slices.Compact(slices.Clone(applied))
			if err != nil || !slices.IsSorted(applied) || len(once) != len(applied) || applied[len(applied)-1] != stores[0].version {
				t.Errorf("applied %v: %v", applied, err)
			}
		})
	}
}

func TestAMigrationThatWaitsCanBeCancelled(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/lock"
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { _, err := lockFile(ctx, path); waiting <- err }()
	cancel()
	if err := <-waiting; err == nil {
		t.Error("a cancelled wait got the lock")
	}
	if err := unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDialectsHaveTheSameMigrationsTablesAndColumns(t *testing.T) {
	t.Parallel()
	var files [2][]string
	for i, d := range []dialect{dialectMySQL, dialectSQLite} {
		entries, err := fs.ReadDir(schema.Migrations, path.Join("migrations", string(d)))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			files[i] = append(files[i], e.Name())
		}
	}
	if diff := cmp.Diff(files[0], files[1]); diff != "" {
		t.Errorf("migrations (-mysql +sqlite):\n%s", diff)
	}
	var columns [2]map[string][]string
	for i, dsn := range []string{testenv.MySQL(t), sqliteDSN(t)} {
		migrated(t, dsn)
		columns[i] = tables(t, opened(t, Options{DSN: dsn}))
	}
	if diff := cmp.Diff(columns[0], columns[1]); diff != "" {
		t.Errorf("columns (-mysql +sqlite):\n%s", diff)
	}
}

// tables lists our tables' columns, with whether each may be NULL.
func tables(t *testing.T, s *Store) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, name := range []string{
		"records", "observations", "transactions", "clients", "chains", "heads", "gaps", "feed", "feed_counter",
		"nodes", "node_events", "access_keys",
	} {
		types, err := s.db.Migrator().ColumnTypes(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range types {
			word := c.Name()
			if null, ok := c.Nullable(); ok && null {
				word += " or NULL"
			}
			out[name] = append(out[name], word)
		}
	}
	return out
}

package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"
)

const (
	// walkRows is how many rows one request may look at for conditions that no index serves. What it has not found by
	// then is left to the next request, which goes on from there: a rare thing costs more requests, never a long one.
	walkRows = 20_000
	// firstStride is how many rows are looked at first, for each row that is wanted: to find where they end reads the index
	// only, and what is dense is found long before.
	firstStride = 100
)

// condition is SQL with its arguments.
type condition struct {
	sql  string
	args []any
}

func (c *condition) and(sql string, args ...any) {
	if c.sql != "" {
		c.sql += " AND "
	}
	c.sql += sql
	c.args = append(c.args, args...)
}

// walk reads a table along one index, in the index's order or against it.
//
// The index is forced: left to itself, MariaDB answers "prefix = ? and order column below a bound" by reading everything
// of the prefix from its end down to the bound, which costs more the farther a list is followed.
type walk struct {
	table     string
	index     string
	fixed     condition // equalities of the index's leading columns
	order     []string  // the columns that follow
	ascending bool
	bounds    condition // of the first column in order
	filter    condition // what the index does not serve
}

// from is the walk's table with the index.
func (w *walk) from(d dialect) string {
	if d == dialectSQLite {
		return w.table + " INDEXED BY " + w.index
	}
	return w.table + " FORCE INDEX (" + w.index + ")"
}

func (w *walk) by() string {
	if w.ascending {
		return strings.Join(w.order, ", ")
	}
	return strings.Join(w.order, " DESC, ") + " DESC"
}

// beyond is the condition for rows after a place in the walk's direction; upTo the one for rows up to it.
func (w *walk) beyond(place []uint64) condition { return compared(w.order, place, w.ascending, false) }
func (w *walk) upTo(place []uint64) condition   { return compared(w.order, place, !w.ascending, true) }

// compared compares columns with a place as a tuple, so that the first column alone is a range of the index. Tuples as such
// MySQL does not read as ranges.
func compared(columns []string, place []uint64, above, included bool) condition {
	op := " < ?"
	if above {
		op = " > ?"
	}
	column, value := columns[0], place[0]
	if len(columns) == 1 {
		if included {
			op = strings.Replace(op, " ?", "= ?", 1)
		}
		return condition{column + op, []any{value}}
	}
	rest := compared(columns[1:], place[1:], above, included)
	return condition{
		sql:  fmt.Sprintf("%s%s AND (%s%s OR %s)", column, strings.Replace(op, " ?", "= ?", 1), column, op, rest.sql),
		args: slices.Concat([]any{value, value}, rest.args),
	}
}

// part is what a walk found, and where to go on; nil if there is nothing more.
type part[R any] struct {
	rows []R
	next []uint64
}

// walked returns up to limit rows after a place, or from the start when that is nil. query makes a fresh query of what is
// wanted of a row.
func walked[R any](
	ctx context.Context, s *Store, w walk, after []uint64, limit int, query func(*gorm.DB) *gorm.DB,
	placeOf func(*R) []uint64,
) (part[R], error) {
	var out part[R]
	read := func(end []uint64) error {
		db := query(s.along(ctx, w, after))
		if end != nil {
			c := w.upTo(end)
			db = db.Where(c.sql, c.args...)
		}
		if w.filter.sql != "" {
			db = db.Where(w.filter.sql, w.filter.args...)
		}
		var rows []R
		err := db.Order(w.by()).Limit(limit + 1 - len(out.rows)).Find(&rows).Error
		out.rows = append(out.rows, rows...)
		if len(out.rows) > limit { // one more was asked for, to know whether there is more
			out.rows = out.rows[:limit]
			out.next = placeOf(&out.rows[limit-1])
		}
		return err
	}
	if w.filter.sql == "" {
		err := read(nil)
		return out, err
	}
	for examined, stride := 0, firstStride*limit; examined < walkRows; stride *= 4 {
		stride = min(stride, walkRows-examined)
		examined += stride
		end, err := s.stride(ctx, w, after, stride)
		if err != nil {
			return out, err
		}
		if err := read(end); err != nil || out.next != nil || end == nil {
			return out, err
		}
		after = end
	}
	out.next = after
	return out, nil
}

// along is what the walk's index serves of a query.
func (s *Store) along(ctx context.Context, w walk, after []uint64) *gorm.DB {
	db := s.db.WithContext(ctx).Table(w.from(s.dialect))
	conditions := []condition{w.fixed, w.bounds}
	if after != nil {
		conditions = append(conditions, w.beyond(after))
	}
	for _, c := range conditions {
		if c.sql != "" {
			db = db.Where(c.sql, c.args...)
		}
	}
	return db
}

// stride returns the place that lies some rows after another, from the index alone; nil if there are not so many.
func (s *Store) stride(ctx context.Context, w walk, after []uint64, rows int) ([]uint64, error) {
	columns := []string{"0 AS a", "0 AS b", "0 AS c"}
	for i, name := range w.order {
		columns[i] = name + " AS " + string(rune('a'+i))
	}
	var found []struct{ A, B, C uint64 }
	err := s.along(ctx, w, after).Select(strings.Join(columns, ", ")).Order(w.by()).Offset(rows - 1).Limit(1).
		Find(&found).Error
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return []uint64{found[0].A, found[0].B, found[0].C}[:len(w.order)], nil
}

// merge puts parts that are in the order of compare together, of equal rows one. Next is where the merged list goes on.
func merge[R, P any](
	parts []part[R], limit int, placeOf func(*R) P, nextOf func(i int, next []uint64) P, compare func(a, b P) int,
) ([]R, *P) {
	var (
		rows []R
		next *P // no part is known beyond
	)
	for i, p := range parts {
		rows = append(rows, p.rows...)
		if p.next == nil {
			continue
		}
		if n := nextOf(i, p.next); next == nil || compare(n, *next) < 0 {
			next = &n
		}
	}
	slices.SortFunc(rows, func(a, b R) int { return compare(placeOf(&a), placeOf(&b)) })
	rows = slices.CompactFunc(rows, func(a, b R) bool { return compare(placeOf(&a), placeOf(&b)) == 0 })
	if next != nil {
		rows = slices.DeleteFunc(rows, func(r R) bool { return compare(placeOf(&r), *next) > 0 })
	}
	if len(rows) > limit {
		rows = rows[:limit]
		last := placeOf(&rows[limit-1])
		next = &last
	}
	return rows, next
}

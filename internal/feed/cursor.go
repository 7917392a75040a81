package feed

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Cursor is a reader's place: everything up to Seq has been seen. A seq means something only within its epoch, which
// changes with the database.
type Cursor struct {
	Epoch string
	Seq   uint64
}

// ErrCursor reports text that is no cursor.
var ErrCursor = errors.New("not a cursor that this feed gave")

// maxEpoch bounds the text of an epoch.
const maxEpoch = 64

// String returns the form that readers hand back. They must not rely on what it consists of.
func (c Cursor) String() string { return c.Epoch + "." + strconv.FormatUint(c.Seq, 10) }

// ParseCursor reads what String wrote; anything else gives ErrCursor.
func ParseCursor(s string) (Cursor, error) {
	epoch, digits, ok := strings.Cut(s, ".")
	if !ok || len(epoch) > maxEpoch || strings.Trim(epoch, "0123456789abcdef") != "" {
		return Cursor{}, fmt.Errorf("%w: want <hex>.<number>", ErrCursor)
	}
	seq, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || digits != strconv.FormatUint(seq, 10) {
		return Cursor{}, fmt.Errorf("%w: want <hex>.<number>", ErrCursor)
	}
	return Cursor{Epoch: epoch, Seq: seq}, nil
}

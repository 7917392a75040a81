package devnet

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Faults is everything that can be wrong with one endpoint; the zero value is a healthy node. Faults combine: a node
// may lag and be slow.
type Faults struct {
	Lag     uint64        // blocks behind the chain
	Ahead   uint64        // claims a head so many blocks above its own, in a header that hashes to what it says
	Stall   bool          // the head stays where it is now; queries are still answered
	Syncing bool          // eth_syncing answers an object
	Lie     bool          // blocks carry hashes that their headers do not have
	Null    bool          // blocks and receipts are null, as from a node that lost them
	ChainID uint64        // claims this chain instead of its own; 0 claims the truth
	Delay   time.Duration // before each answer
	Reply   Reply         // what becomes of the answer on its way out
}

// Reply is a way in which an endpoint's HTTP answers go wrong.
type Reply string

// The ways in which an answer goes wrong.
const (
	ReplySound    Reply = ""
	ReplyDark     Reply = "dark"     // the connection is closed without an answer
	ReplyHang     Reply = "hang"     // the connection stays open without an answer
	ReplyGarbage  Reply = "garbage"  // 200 with an HTML page
	ReplyTruncate Reply = "truncate" // 200 with the first half of the JSON
	ReplyLimit    Reply = "limit"    // 429 with Retry-After: 1 and the JSON-RPC error -32005
	ReplyError    Reply = "error"    // 500
	ReplyHuge     Reply = "huge"     // 200 with 300 MB of white space before the JSON
	ReplyDrip     Reply = "drip"     // one byte a second
)

var errFault = errors.New("unknown fault")

// ParseFaults reads a comma-separated list such as "lag:5,slow:200ms": lag:BLOCKS, ahead:BLOCKS, stall, syncing, lie,
// null, chain:ID, slow:DURATION or a Reply's name. The empty string and "none" are a healthy node.
func ParseFaults(text string) (Faults, error) {
	var f Faults
	if text == "" || text == "none" {
		return f, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		if err := f.parse(strings.TrimSpace(word)); err != nil {
			return Faults{}, fmt.Errorf("parse fault %q: %w", word, err)
		}
	}
	return f, nil
}

func (f *Faults) parse(word string) (err error) {
	name, value, _ := strings.Cut(word, ":")
	switch name {
	case "lag":
		f.Lag, err = strconv.ParseUint(value, 10, 32)
	case "ahead":
		f.Ahead, err = strconv.ParseUint(value, 10, 62)
	case "chain":
		f.ChainID, err = strconv.ParseUint(value, 10, 63)
	case "slow":
		f.Delay, err = time.ParseDuration(value)
	case "stall":
		f.Stall = true
	case "syncing":
		f.Syncing = true
	case "lie":
		f.Lie = true
	case "null":
		f.Null = true
	default:
		f.Reply = Reply(name)
		if !slices.Contains(replies(), f.Reply) {
			err = errFault
		}
	}
	return err
}

func replies() []Reply {
	return []Reply{
		ReplyDark, ReplyHang, ReplyGarbage, ReplyTruncate, ReplyLimit, ReplyError, ReplyHuge, ReplyDrip,
	}
}

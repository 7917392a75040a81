package store

// cache remembers records that are committed, and nothing else: an offer of one of them needs no look at the database
// before it is known to be a duplicate. It holds at most the newest n keys and at least n/2; when the younger half is
// full it becomes the older one, which is forgotten. That records are never deleted is what makes it true.
type cache struct {
	half       int
	young, old map[recordKey]uint64 // to the record's id; 0 if nothing needed it
}

// cacheKeys is how many keys a store remembers, some 6 MiB: a day and more of a chain, of several in their last hours.
const cacheKeys = 1 << 16

func newCache(n int) *cache { return &cache{half: n / 2, young: map[recordKey]uint64{}} }

func (c *cache) find(k recordKey) (id uint64, ok bool) {
	if id, ok = c.young[k]; ok {
		return id, true
	}
	id, ok = c.old[k]
	return id, ok
}

// add remembers a record whose transaction has been committed.
func (c *cache) add(k recordKey, id uint64) {
	if len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[recordKey]uint64, c.half)
	}
	c.young[k] = id
}

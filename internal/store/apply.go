package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// ErrReplicaMoved reports a replica whose place is not the one that the caller believes: somebody else has moved it. Read
// it again and start over from there.
var ErrReplicaMoved = errors.New("the replica's place was moved by another")

// ErrOwnFeed reports a database that has a feed and is no replica: what servers store into, or a judge.
var ErrOwnFeed = errors.New("the database has a feed of its own, so it can be no replica: give it an empty one")

// ErrReplicaDialect reports a database that cannot be a replica's.
var ErrReplicaDialect = errors.New("a replica keeps its rows in SQLite: use sqlite:///path/to/file; to read from MySQL, " +
	"let `firstseen stats` use a replica that MySQL itself makes")

// Contradiction reports a row of the feed that cannot follow on what is stored. Nothing of its application is kept.
type Contradiction struct {
	Event schema.FeedEvent
	What  string
}

// Error implements error.
func (e *Contradiction) Error() string {
	text := fmt.Sprintf("row %d of the feed", e.Event.Seq)
	if e.Event.Number != nil {
		text += fmt.Sprintf(" (%s, block %d %s of chain %d)", e.Event.Kind, *e.Event.Number, e.Event.Key, e.Event.Chain)
	}
	return text + ": " + e.What
}

// Application is a run of another store's feed on its way into a replica.
type Application struct {
	Believed *ReplicaPlace // what the caller takes for the replica's place; nil for a database that was never applied to
	After    ReplicaPlace  // the place that the rows lead to
	Rows     []schema.ShippedRow
	// Sightings are added where their record is stored and they are not.
	Sightings []schema.ShippedSighting
	// Chains are where the writer's chains stood after the last row; empty if nobody knows.
	Chains []schema.ChainState
}

// Applied is what came of an application.
type Applied struct {
	Seq   uint64            // the last row of the local feed
	Heads map[uint64]uint64 // heights of the heads of the chains that the rows are about
	// Differ are chains that stand elsewhere at the writer: its view of them. They should not be.
	Differ []schema.ChainState
}

// ReplicaReady tells whether the database can be a replica's: ErrReplicaDialect, ErrOwnFeed, or one without tables.
func (s *Store) ReplicaReady(ctx context.Context) error {
	if s.dialect != dialectSQLite {
		return fmt.Errorf("%s: %w", s.source, ErrReplicaDialect)
	}
	db := s.db.WithContext(ctx)
	place, err := readReplicaPlace(db)
	if err != nil || place != nil {
		return err
	}
	seq, err := readFeedSeq(db)
	if err == nil && seq > 0 {
		err = fmt.Errorf("%s: %w", s.source, ErrOwnFeed)
	}
	return err
}

// Apply adds a run of rows with all that they bring, and the place that they lead to, in one transaction. It fails with
// ErrReplicaMoved, ErrOwnFeed, ErrReplicaDialect or a *Contradiction, or because of the database, and then it has
// changed nothing.
func (s *Store) Apply(ctx context.Context, app *Application) (Applied, error) {
	if s.dialect != dialectSQLite {
		return Applied{}, fmt.Errorf("%s: %w", s.source, ErrReplicaDialect)
	}
	if err := s.openApplier(ctx); err != nil {
		return Applied{}, err
	}
	var out Applied
	err := s.transactionOn(ctx, s.applier.db, func(db *gorm.DB) error {
		tx, ok := db.Statement.ConnPool.(*sql.Tx)
		if !ok {
			return fmt.Errorf("begin application: %T is no transaction", db.Statement.ConnPool)
		}
		a := &application{
			Application: app, ctx: ctx, db: db, tx: tx, stmts: s.applier.stmts, at: schema.Micros(s.now()),
			chains: map[uint64]*branching{},
		}
		err := a.run()
		out = Applied{Seq: a.seq, Heads: a.heads(), Differ: a.differ}
		return err
	})
	if err != nil {
		return Applied{}, fmt.Errorf("apply rows %s: %w", app.span(), err)
	}
	s.tell(out.Seq)
	return out, nil
}

func (app *Application) span() string {
	if len(app.Rows) == 0 {
		return fmt.Sprintf("behind %d", app.After.Seq)
	}
	return fmt.Sprintf("%d to %d", app.Rows[0].Seq, app.After.Seq)
}

// application is one Application in its transaction.
type application struct {
	*Application
	ctx   context.Context //nolint:containedctx // lives as long as the call that it belongs to
	db    *gorm.DB
	tx    *sql.Tx // db's own
	stmts *statements
	at    int64 // now, in microseconds

	told   retold
	seq    uint64             // of the local feed's last row
	events []schema.FeedEvent // new rows of the local feed
	prev   schema.FeedEvent
	chains map[uint64]*branching
	fresh  []*placed // new records, in the order of their rows
	differ []schema.ChainState
}

func (a *application) run() error {
	if err := a.begin(); err != nil {
		return err
	}
	if err := a.load(); err != nil {
		return err
	}
	for i := range a.Rows {
		if err := a.row(&a.Rows[i]); err != nil {
			return err
		}
	}
	for _, step := range []func() error{a.writeRecords, a.writeSightings, a.writeStatuses, a.writeFeed, a.writeChains, a.writePlace} {
		if err := step(); err != nil {
			return err
		}
	}
	return a.compareChains()
}

func (a *application) heads() map[uint64]uint64 {
	heads := make(map[uint64]uint64, len(a.chains))
	for id, c := range a.chains {
		if c.row != nil {
			heads[id] = c.row.HeadNumber
		}
	}
	return heads
}

// begin checks that the replica is where the caller takes it to be, and that the rows follow on that.
func (a *application) begin() error {
	place, err := readReplicaPlace(a.db)
	if err != nil {
		return err
	}
	if a.seq, err = readFeedSeq(a.db); err != nil {
		return err
	}
	if place == nil && a.seq > 0 {
		return ErrOwnFeed
	}
	if (place == nil) != (a.Believed == nil) || place != nil && *place != *a.Believed {
		return ErrReplicaMoved
	}
	next := uint64(1)
	if place != nil {
		next = place.Seq + 1
	}
	for i := range a.Rows {
		if a.Rows[i].Seq != next {
			return &Contradiction{a.Rows[i].FeedEvent, fmt.Sprintf("row %d must come next", next)}
		}
		next++
	}
	if a.After.Seq != next-1 {
		return fmt.Errorf("rows end at %d, the place at %d", next-1, a.After.Seq)
	}
	if a.told, err = readRetold(a.db); err != nil {
		return err
	}
	return a.loadPrev()
}

// loadPrev reads the last row of the local feed: a gap there lets the next block begin a new branch.
func (a *application) loadPrev() error {
	var rows []feedRow
	if err := a.db.Where("seq = ?", a.seq).Find(&rows).Error; err != nil {
		return fmt.Errorf("read end of feed: %w", err)
	}
	if len(rows) == 1 {
		a.prev = rows[0].event()
	}
	return nil
}

// row takes one row in.
func (a *application) row(r *schema.ShippedRow) error {
	if a.told.skips(r.Chain, r.Seq) {
		return nil
	}
	what, err := a.take(r)
	if err != nil {
		return err
	}
	if what != "" {
		return &Contradiction{r.FeedEvent, what}
	}
	a.prev = r.FeedEvent
	return nil
}

// publish adds a row to the local feed.
func (a *application) publish(e schema.FeedEvent) {
	a.seq++
	e.Seq = a.seq
	a.events = append(a.events, e)
}

// take returns what is wrong with the row, empty if nothing is.
func (a *application) take(r *schema.ShippedRow) (wrong string, err error) {
	switch r.Kind {
	case schema.FeedBlock, schema.FeedBare:
		return a.add(r)
	case schema.FeedStatus:
		return a.restate(r)
	case schema.FeedAlarm:
		c, err := a.branching(r.Chain)
		if err != nil {
			return "", err
		}
		if c.row == nil {
			return "an alarm on a chain without a block", nil
		}
		c.row.Halted, c.moved = &r.Note, true
		a.publish(r.FeedEvent)
		return "", nil
	case schema.FeedGap:
		if r.Number == nil || r.To == nil || *r.Number > *r.To {
			return "a gap without its heights", nil
		}
		a.publish(r.FeedEvent)
		return "", nil
	}
	return fmt.Sprintf("kind %q is not known: this program is too old for this feed", r.Kind), nil
}

// add takes in a record.
func (a *application) add(r *schema.ShippedRow) (wrong string, err error) {
	if wrong := misfit(r); wrong != "" {
		return wrong, nil
	}
	c, err := a.branching(r.Chain)
	if err != nil {
		return "", err
	}
	if known := c.blocks[string(r.Key)]; known != nil {
		if !a.told.isForeign(r.Chain, heightOf(r)) {
			return "the record is stored already", nil
		}
		return c.change(a, r.FeedEvent, known)
	}
	b := &placed{key: string(r.Key), status: r.Status, id: r.Record.ID, fresh: r.Record}
	c.blocks[b.key], a.fresh = b, append(a.fresh, b)
	a.publish(r.FeedEvent)
	if r.Kind == schema.FeedBare {
		return "", nil
	}
	b.number, b.parent = *r.Record.Number, string(r.Record.Parent.Key())
	if !b.status.OnBranch() {
		return "", nil
	}
	return c.join(b, a.prev)
}

// heightOf is 0 for a row without a height.
func heightOf(r *schema.ShippedRow) uint64 {
	if r.Number == nil {
		return 0
	}
	return *r.Number
}

// misfit tells in what way a row and its record do not belong together.
func misfit(r *schema.ShippedRow) string {
	rec := r.Record
	switch {
	case rec == nil:
		return "comes without its record"
	case rec.Chain != r.Chain || rec.Key != r.Key || !validKey(string(r.Key)):
		return fmt.Sprintf("comes with the record %s of chain %d", rec.Key, rec.Chain)
	case (r.Kind == schema.FeedBare) != (r.Chain == schema.BareChain):
		return "is of a kind that is not its chain's"
	case r.Kind == schema.FeedBlock && (rec.Number == nil || rec.Parent == nil || r.Number == nil || *rec.Number != *r.Number):
		return "comes with a record without its height or its parent"
	}
	return ""
}

// restate takes in a change of status.
func (a *application) restate(r *schema.ShippedRow) (wrong string, err error) {
	c, err := a.branching(r.Chain)
	if err != nil {
		return "", err
	}
	b, err := c.find(string(r.Key))
	switch {
	case err != nil:
		return "", err
	case b == nil && a.told.isForeign(r.Chain, heightOf(r)): // it was told before this writer was followed, and left since
		return "", nil
	case b == nil:
		return "the block is not stored", nil
	case b.status != r.Was && !a.told.isForeign(r.Chain, b.number):
		return fmt.Sprintf("the block was %s, here it is %s", r.Was, b.status), nil
	}
	return c.change(a, r.FeedEvent, b)
}

// change gives a stored block the status that an event tells, and publishes that, if it is another.
func (c *branching) change(a *application, e schema.FeedEvent, b *placed) (wrong string, err error) {
	was := b.status
	if was == e.Status {
		return "", nil
	}
	if a.told.isForeign(c.id, b.number) {
		if same, wrong := settled(e, was); same || wrong != "" {
			return wrong, nil
		}
	}
	e.Kind, e.Was = schema.FeedStatus, was
	a.publish(e)
	b.status, b.changed = e.Status, true
	switch {
	case was.OnBranch() && !b.status.OnBranch():
		wrong = c.leave(b)
	case !was.OnBranch() && b.status.OnBranch() && !c.beneath(b, a.told):
		wrong, err = c.join(b, a.prev)
	}
	c.raise(b)
	return wrong, err
}

// beneath tells whether a block lies below the root in what another writer's branch was: the root does not sink there
// step by step.
func (c *branching) beneath(b *placed, told retold) bool {
	return told.isForeign(c.id, b.number) && c.row != nil && !c.bare && b.number < c.row.RootNumber && b.key != c.row.RootParent
}

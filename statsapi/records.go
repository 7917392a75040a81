package statsapi

import (
	"context"
	"net/http"

	"github.com/firstseen/firstseen/schema"
)

// Record is one thing first seen: a block, or a payload that came without a header.
type Record struct {
	Key         string         `json:"key" pattern:"^0x[0-9a-f]{64}$" doc:"A block's hash; of a bare payload its SHA-256."`
	Kind        string         `json:"kind" enum:"block,bare"`
	Chain       Number         `json:"chain" doc:"Chain id; 0 for a bare payload."`
	Number      OptionalNumber `json:"number" doc:"Height; null for a bare payload."`
	Status      *string        `json:"status" enum:"canonical,non_canonical,safe,finalized,orphaned" doc:"Null for a bare payload."`
	Observer    *string        `json:"observer" doc:"Who saw the block first; null for a bare payload."`
	Node        *string        `json:"node" doc:"The node through which it was seen first."`
	Origin      *string        `json:"origin" enum:"head,backfill" doc:"Whether it was that observer's head or fetched later."`
	Server      string         `json:"server" doc:"The server that received it first."`
	ObservedAt  *Time          `json:"observed_at,omitempty" doc:"By the observer's clock; left out for a bare payload."`
	ReceivedAt  Time           `json:"received_at" doc:"By the server's clock, which orders records."`
	ContentType string         `json:"content_type" doc:"Of the payload."`
	Payload     string         `json:"payload" format:"uri-reference" doc:"Where the payload is served."`
}

// RecordList is a part of the list of records.
type RecordList struct {
	Data       []Record `json:"data" nullable:"false"`
	NextCursor *string  `json:"next_cursor" doc:"Pass it as cursor to go on; null at the end."`
	*PageBar
}

type recordsInput struct {
	RecordQuery
	PlaceQuery
	Kind string    `query:"kind" enum:"block,bare" doc:"Only blocks, or only payloads that came without a header."`
	Page pageParam `query:"page" doc:"Go to a page, without any condition. Costs more the farther it leads."`
	Sort string    `query:"sort" enum:"received,-received" doc:"By reception, with a minus the last first, which is the default."`
}

type recordsOutput struct {
	Link string `header:"Link"`
	Body RecordList
}

func (a *API) routeRecords() {
	get(a, "/v1/records", "listRecords", "Everything first seen, what was received last first", a.listRecords)
	get(a, "/v1/records/{key}", "getRecord", "One record", a.getRecord, http.StatusNotFound)
	a.routePayload()
}

func (a *API) listRecords(ctx context.Context, in *recordsInput) (*recordsOutput, error) {
	limit, err := in.Limit.read()
	if err != nil {
		return nil, err
	}
	f, err := in.RecordQuery.read()
	if err != nil {
		return nil, err
	}
	switch in.Kind {
	case "":
	case "block":
		f.Blocks = true
	case "bare":
		if f.Chain != nil {
			return nil, badParameter("kind", in.Kind, "is of no chain: leave chain out")
		}
		f.Chain = new(schema.BareChain)
	default:
		return nil, badParameter("kind", in.Kind, "must be block or bare")
	}
	ascending, err := sorted(in.Sort, "received")
	if err != nil {
		return nil, err
	}
	plain := in.Kind == "" && in.RecordQuery == RecordQuery{} && !ascending
	page, err := readPage(in.Page, in.Cursor, plain)
	if err != nil {
		return nil, err
	}
	return a.recordPart(ctx, in, f, ascending, page, limit)
}

// recordPart reads the part of the list that was asked for.
func (a *API) recordPart(
	ctx context.Context, in *recordsInput, f schema.RecordFilter, ascending bool, page uint64, limit int,
) (*recordsOutput, error) {
	var (
		out   = &recordsOutput{Body: RecordList{Data: []Record{}}}
		found []schema.Record
		next  *schema.RecordPlace
		err   error
	)
	if page > 0 {
		total, err := a.counter.records(ctx)
		if err != nil {
			return nil, err
		}
		out.Body.PageBar = pageBar(in.url, page, total, uint64(limit))
	}
	if page > 1 {
		found, next, err = a.recordPage(ctx, page, limit)
	} else {
		var after *schema.RecordPlace
		if in.Cursor != "" {
			if after, err = decodeRecordCursor(in.Cursor); err != nil {
				return nil, err
			}
		}
		found, next, err = a.opts.Store.ListRecords(ctx, f, ascending, after, limit)
	}
	if err != nil {
		return nil, err
	}
	for _, r := range found {
		out.Body.Data = append(out.Body.Data, recordOf(r))
	}
	if next != nil {
		out.Body.NextCursor = new(sealCursor(recordCursor, next.ReceivedAt, next.ID))
	}
	out.Link = links(in.url, out.Body.NextCursor, page, out.Body.PageBar)
	return out, nil
}

func (a *API) recordPage(ctx context.Context, page uint64, limit int) ([]schema.Record, *schema.RecordPlace, error) {
	skip, ok := skipped(page, limit)
	if !ok {
		return nil, nil, nil
	}
	found, err := a.opts.Store.PageRecords(ctx, skip, limit+1)
	if len(found) <= limit { // one more was asked for, to know whether there is more
		return found, nil, err
	}
	last := found[limit-1]
	return found[:limit], &schema.RecordPlace{ReceivedAt: uint64(schema.Micros(last.ReceivedAt)), ID: last.ID}, err
}

type recordInput struct {
	Key   string     `path:"key" doc:"A block's hash or a bare payload's SHA-256, with or without 0x."`
	Chain chainParam `query:"chain" doc:"Needed only if several chains hold the key."`
}

type recordOutput struct{ Body Record }

func (a *API) getRecord(ctx context.Context, in *recordInput) (*recordOutput, error) {
	record, err := a.recordByKey(ctx, in)
	if err != nil {
		return nil, err
	}
	return &recordOutput{Body: recordOf(*record)}, nil
}

func (a *API) recordByKey(ctx context.Context, in *recordInput) (*schema.Record, error) {
	hash, err := schema.ParseHash(in.Key)
	if err != nil {
		return nil, notFound("no record %q: a key is 64 hex digits", clip(in.Key))
	}
	return a.record(ctx, hash, in.Chain, schema.BareChain)
}

func recordOf(r schema.Record) Record {
	key := "0x" + string(r.Key)
	out := Record{
		Key: key, Kind: "bare", Chain: Number(r.Chain), Server: r.Server, ReceivedAt: Time{r.ReceivedAt},
		ContentType: r.ContentType, Payload: "/v1/records/" + key + "/payload",
	}
	if r.ObservedAt != nil {
		out.ObservedAt = &Time{*r.ObservedAt}
	}
	if r.Header != nil {
		out.Kind, out.Number = "block", optional(&r.Header.Number)
		out.Status, out.Origin = new(string(r.Status)), new(string(r.Origin))
		out.Observer, out.Node = &r.Observer, &r.Node
		out.Payload += "?chain=" + formatUint(r.Chain)
	}
	return out
}

package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/firstseen/firstseen/schema"
)

// Format is the version of segments, checkpoints and the index. A reader refuses every other.
const Format = 1

// Most that objects may be once decompressed; what is larger is refused before it is held.
const (
	MaxSegment = 192 << 20 // bytes
	MaxRecord  = 96 << 20  // bytes
)

// ErrDamaged reports an object that is not what its writer wrote: cut off, flipped, or made by something else.
var ErrDamaged = errors.New("damaged object")

// Head is what a segment says of itself.
type Head struct {
	Format int         `json:"format"`
	Env    string      `json:"env"`
	Role   string      `json:"role"`
	Epoch  uint64      `json:"epoch"`  // the fencing number of the writer that made it
	Source string      `json:"source"` // the epoch of the feed that its rows are from
	First  uint64      `json:"first"`  // seq of its first row
	Last   uint64      `json:"last"`   // of its last row
	Prev   schema.Hash `json:"prev"`   // the link before its first row; zero where that is row 1
	Link   schema.Hash `json:"link"`   // the link after its last row
	At     time.Time   `json:"at"`     // when it was made, by the writer's clock
}

// Row is one row of the feed.
type Row struct {
	Event  schema.FeedEvent
	Object schema.Hash           // SHA-256 of the record's JSON; zero for kinds that have no record
	Record *schema.ShippedRecord // nil unless the segment carries it

	body []byte // the record's JSON, where the encoder is to take it as it is
}

// Segment is a run of the feed's rows with what belongs beside them.
type Segment struct {
	Head
	Rows      []Row
	Sightings []schema.ShippedSighting // of records in these rows and in earlier ones
	Digests   []schema.RangeDigest     // as the writer's store stood after the last row
	Chains    []schema.ChainState      // likewise; only of a segment that ended where the feed ended

	size int // bytes as stored, where that is known
}

// HasObject tells whether rows of a kind have a record, and so an object.
func HasObject(kind schema.FeedKind) bool { return kind == schema.FeedBlock || kind == schema.FeedBare }

// NextLink is the link after a row: a hash over all rows up to it, the same however they are cut into segments.
func NextLink(prev schema.Hash, event []byte, object schema.Hash) schema.Hash {
	h := sha256.New()
	h.Write(prev[:])
	h.Write(event)
	h.Write(object[:])
	var link schema.Hash
	h.Sum(link[:0])
	return link
}

// encodeEvent is the JSON of a row that links are made of.
func encodeEvent(e *schema.FeedEvent) ([]byte, error) {
	e.At = e.At.UTC()
	return json.Marshal(e)
}

// rest is a line behind the rows: one of its fields.
type rest struct {
	Sighting *schema.ShippedSighting `json:"sighting,omitzero"`
	Digest   *schema.RangeDigest     `json:"digest,omitzero"`
	Chains   []schema.ChainState     `json:"chains,omitzero"`
}

// The parts of a row's line. Rows are written and read in this form only, so that the bytes that links and objects are
// hashes of are found without a second encoding.
const (
	rowStart  = `{"event":`
	rowObject = `,"object":"0x`
	rowRecord = `,"record":`
)

// EncodeSegment returns a segment as it is stored, and sets its Format, Last and Link from its rows. Rows must follow
// each other from First; a row with a record carries it, and its Object is set. The same segment gives the same bytes
// before compression.
func EncodeSegment(s *Segment) ([]byte, error) {
	text, err := s.text()
	if err != nil {
		return nil, err
	}
	return compress(text)
}

// text is a segment before compression.
func (s *Segment) text() ([]byte, error) {
	events, size, err := s.seal()
	if err != nil {
		return nil, fmt.Errorf("encode segment %d: %w", s.First, err)
	}
	head, err := json.Marshal(s.Head)
	if err != nil {
		return nil, fmt.Errorf("encode segment %d: %w", s.First, err)
	}
	lines := bytes.NewBuffer(make([]byte, 0, len(head)+1+size))
	lines.Write(append(head, '\n'))
	for i := range s.Rows {
		s.Rows[i].appendLine(lines, events[i])
	}
	if err := s.appendRest(lines); err != nil {
		return nil, fmt.Errorf("encode segment %d: %w", s.First, err)
	}
	return lines.Bytes(), nil
}

// seal checks the rows and sets what the head says of them. It returns the JSON of their events, and how many bytes their
// lines take at most.
func (s *Segment) seal() (events [][]byte, size int, err error) {
	if len(s.Rows) == 0 {
		return nil, 0, errors.New("no rows")
	}
	link := s.Prev
	events = make([][]byte, len(s.Rows))
	for i := range s.Rows {
		r := &s.Rows[i]
		if want := s.First + uint64(i); r.Event.Seq != want {
			return nil, 0, fmt.Errorf("row %d where %d belongs", r.Event.Seq, want)
		}
		if err := r.encodeBody(); err != nil {
			return nil, 0, err
		}
		if HasObject(r.Event.Kind) == r.Object.IsZero() {
			return nil, 0, fmt.Errorf("row %d of kind %s has object %s", r.Event.Seq, r.Event.Kind, r.Object)
		}
		if events[i], err = encodeEvent(&r.Event); err != nil {
			return nil, 0, fmt.Errorf("row %d: %w", r.Event.Seq, err)
		}
		link = NextLink(link, events[i], r.Object)
		size += len(rowStart) + len(events[i]) + len(rowObject) + 2*len(r.Object) + len(rowRecord) + len(r.body) + len("\"}\n")
	}
	if size > MaxSegment {
		return nil, 0, fmt.Errorf("%d bytes in %d rows, of which readers take %d", size, len(s.Rows), MaxSegment)
	}
	s.Format, s.Last, s.Link, s.At = Format, s.First+uint64(len(s.Rows))-1, link, s.At.UTC()
	return events, size, nil
}

// encodeBody sets the JSON of a record that the row carries, and its hash.
func (r *Row) encodeBody() error {
	if r.Record == nil || r.body != nil {
		return nil
	}
	body, err := json.Marshal(r.Record)
	if err != nil {
		return fmt.Errorf("record of row %d: %w", r.Event.Seq, err)
	}
	r.body, r.Object = body, sha256.Sum256(body)
	return nil
}

func (r *Row) appendLine(lines *bytes.Buffer, event []byte) {
	lines.WriteString(rowStart)
	lines.Write(event)
	if !r.Object.IsZero() {
		lines.WriteString(rowObject)
		lines.Write(hex.AppendEncode(lines.AvailableBuffer(), r.Object[:]))
		lines.WriteByte('"')
	}
	if r.body != nil {
		lines.WriteString(rowRecord)
		lines.Write(r.body)
	}
	lines.WriteString("}\n")
}

func (s *Segment) appendRest(lines *bytes.Buffer) error {
	all := make([]rest, 0, len(s.Sightings)+len(s.Digests)+1)
	for i := range s.Sightings {
		all = append(all, rest{Sighting: &s.Sightings[i]})
	}
	for i := range s.Digests {
		all = append(all, rest{Digest: &s.Digests[i]})
	}
	if len(s.Chains) > 0 {
		all = append(all, rest{Chains: s.Chains})
	}
	for i := range all {
		line, err := json.Marshal(&all[i])
		if err != nil {
			return err
		}
		lines.Write(line)
		lines.WriteByte('\n')
	}
	return nil
}

// DecodeSegment reads a segment and verifies all that can be verified without a store: the checksum, that rows follow
// each other and lead from the link before them to the one after, and that every record that it carries hashes to its
// object and is the one that its row is about. Everything else is ErrDamaged.
func DecodeSegment(stored []byte) (*Segment, error) {
	text, err := decompress(stored, MaxSegment)
	if err != nil {
		return nil, fmt.Errorf("decode segment: %w", err)
	}
	s, err := parseSegment(text)
	if err != nil {
		return nil, fmt.Errorf("decode segment: %w: %w", ErrDamaged, err)
	}
	return s, nil
}

func parseSegment(text []byte) (*Segment, error) {
	head, text, ok := bytes.Cut(text, []byte{'\n'})
	if !ok {
		return nil, errors.New("no line that says what it is")
	}
	s := &Segment{}
	if err := strictly(head, &s.Head); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if s.Format != Format {
		return nil, fmt.Errorf("format %d, this program reads %d", s.Format, Format)
	}
	if s.First == 0 || s.Last < s.First || s.Last-s.First >= uint64(len(text)) {
		return nil, fmt.Errorf("rows %d to %d", s.First, s.Last)
	}
	text, err := s.parseRows(text)
	if err != nil {
		return nil, err
	}
	for len(text) > 0 {
		line, after, ok := bytes.Cut(text, []byte{'\n'})
		if !ok {
			return nil, errors.New("last line is cut off")
		}
		if err := s.parseRest(line); err != nil {
			return nil, err
		}
		text = after
	}
	return s, nil
}

// parseRows reads the rows that the head announces, and returns the text behind them.
func (s *Segment) parseRows(text []byte) ([]byte, error) {
	s.Rows = make([]Row, 0, min(s.Last-s.First+1, 1<<16))
	link := s.Prev
	for seq := s.First; seq <= s.Last; seq++ {
		line, after, ok := bytes.Cut(text, []byte{'\n'})
		if !ok {
			return nil, fmt.Errorf("row %d of %d to %d is missing", seq, s.First, s.Last)
		}
		var row Row
		event, err := row.parse(line)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", seq, err)
		}
		if row.Event.Seq != seq {
			return nil, fmt.Errorf("row %d where %d belongs", row.Event.Seq, seq)
		}
		link = NextLink(link, event, row.Object)
		s.Rows = append(s.Rows, row)
		text = after
	}
	if link != s.Link {
		return nil, fmt.Errorf("rows lead to link %s, not to %s", link, s.Link)
	}
	return text, nil
}

// parse reads a row's line and returns the part that is the event.
func (r *Row) parse(line []byte) (event []byte, err error) {
	line, ok := bytes.CutPrefix(line, []byte(rowStart))
	if !ok {
		return nil, errors.New("no event")
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(line))
	if err := json.UnmarshalDecode(d, &r.Event, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	event, line = line[:d.InputOffset()], line[d.InputOffset():]
	if after, ok := bytes.CutPrefix(line, []byte(rowObject)); ok {
		const digits = 2 * len(r.Object)
		if len(after) < digits+1 || after[digits] != '"' || bytes.ContainsAny(after[:digits], "ABCDEF") {
			return nil, errors.New("object is no hash")
		}
		if _, err := hex.Decode(r.Object[:], after[:digits]); err != nil {
			return nil, fmt.Errorf("object: %w", err)
		}
		line = after[digits+1:]
	}
	if HasObject(r.Event.Kind) == r.Object.IsZero() {
		return nil, fmt.Errorf("kind %q with object %s", r.Event.Kind, r.Object)
	}
	line, ok = bytes.CutSuffix(line, []byte("}"))
	if body, carries := bytes.CutPrefix(line, []byte(rowRecord)); ok && carries {
		return event, r.parseRecord(body)
	}
	if !ok || len(line) > 0 {
		return nil, errors.New("bytes behind its parts")
	}
	return event, nil
}

func (r *Row) parseRecord(body []byte) (err error) {
	if r.Record, err = parseRecord(body, r.Object); err != nil {
		return err
	}
	if r.Record.Chain != r.Event.Chain || r.Record.Key != r.Event.Key {
		return fmt.Errorf("record is of chain %d key %s", r.Record.Chain, r.Record.Key)
	}
	return nil
}

func (s *Segment) parseRest(line []byte) error {
	var l rest
	if err := strictly(line, &l); err != nil {
		return err
	}
	switch {
	case l.Sighting != nil && l.Digest == nil && l.Chains == nil:
		s.Sightings = append(s.Sightings, *l.Sighting)
	case l.Digest != nil && l.Sighting == nil && l.Chains == nil:
		if l.Digest.Seq != s.Last {
			return fmt.Errorf("digest as of row %d in a segment that ends with %d", l.Digest.Seq, s.Last)
		}
		s.Digests = append(s.Digests, *l.Digest)
	case l.Chains != nil && s.Chains == nil && l.Sighting == nil && l.Digest == nil:
		s.Chains = l.Chains
	default:
		return errors.New("a line that is neither sighting nor digest nor chains")
	}
	return nil
}

// strictly decodes one value, and refuses members that it does not know: they would be lost.
func strictly(text []byte, into any) error {
	return json.Unmarshal(text, into, json.RejectUnknownMembers(true))
}

package replica

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/test/process"
)

// few are the marks of a chain that is reorganised a little only.
var few = marks{4, 8}

// nobody is an address where no broker is.
const nobody = "127.0.0.1:1"

// lasts lets a fault last while the chain goes on by a block each tick: a little, or for a minute in the long form.
func (s *site) lasts(short time.Duration) {
	s.t.Helper()
	if accepting() {
		short = time.Minute
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(short); time.Now().Before(end); {
		<-tick.C
		s.mine(1)
	}
}

// ready waits until a process says that it is, or is not, ready.
func (s *site) ready(p *process.Process, want bool) {
	s.t.Helper()
	url := "http://" + p.Addr(s.t, "admin") + "/readyz"
	testenv.Eventually(s.t, func() error {
		code, body, err := ask(s.t.Context(), http.MethodGet, url, nil)
		if err == nil && (code == http.StatusOK) != want {
			err = fmt.Errorf("%s is ready: %d %s, want %v", p.Args[0], code, body, want)
		}
		return err
	})
}

// says waits until a process has logged a text.
func (s *site) says(p *process.Process, text string) {
	s.t.Helper()
	testenv.Eventually(s.t, func() error {
		if !strings.Contains(p.Log.String(), text) {
			return fmt.Errorf("%s has not logged %q", p.Args[0], text)
		}
		return nil
	})
}

// checkpoint is what the tests read of how far ship got.
type checkpoint struct {
	Epoch  uint64
	Holder string
	Seq    uint64
}

func (s *site) checkpoint() (c checkpoint, err error) {
	key := "test/" + s.role + "/writer"
	if !slices.Contains(s.bucket.objects("test/"+s.role+"/"), key) {
		return c, errors.New("nothing is shipped yet")
	}
	return c, json.Unmarshal(s.bucket.read(key), &c)
}

// shipped waits until all that the writer has is in the object store.
func (s *site) shipped() {
	s.t.Helper()
	s.written()
	testenv.Eventually(s.t, func() error {
		st, err := s.standing(s.api)
		c, err2 := s.checkpoint()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if c.Seq != st.Seq {
			return fmt.Errorf("shipped up to row %d of %d", c.Seq, st.Seq)
		}
		return nil
	})
}

// The broker is away all the time, and the object store for a while, first killed and then frozen. Whoever needs it says
// that it is not ready; nothing is lost, and nothing has to be started again.
func TestTheObjectStoreIsAwayForAWhileAndTheBrokerAllTheTime(t *testing.T) {
	t.Parallel()
	s := newSite(t, newDevnet(t, few), few, nobody)
	s.follow()
	s.mine(10)
	s.caughtUp(s.replicas...)

	s.bucket.kill()
	s.lasts(2 * time.Second)
	if accepting() {
		s.ready(s.ship, false)
		s.ready(s.replicas[0].Process, false)
	}
	s.bucket.start()
	s.caughtUp(s.replicas...)

	s.bucket.signal(syscall.SIGSTOP)
	s.lasts(time.Second)
	s.bucket.signal(syscall.SIGCONT)
	s.reorg(2)
	s.follow()
	s.converge()
	for _, p := range []*process.Process{s.ship, s.replicas[0].Process} {
		s.ready(p, true)
	}
}

// A segment or a block that is missing, or only half there, or in which a bit is flipped, is not applied: the replica
// waits and says why, and goes on as soon as the object is whole.
func TestADamagedObjectIsWaitedForAndNeverApplied(t *testing.T) {
	t.Parallel()
	s := newSite(t, newDevnet(t, few), few, nobody)
	s.mine(10)
	s.shipped()
	half := func(b []byte) []byte { return b[:len(b)/2] }
	flip := func(b []byte) []byte {
		b[len(b)/2] ^= 1
		return b
	}
	for _, damage := range []struct {
		name, within string
		do           func([]byte) []byte
	}{
		{"half a segment", "/feed/", half},
		{"a flipped segment", "/feed/", flip},
		{"an empty segment", "/feed/", func([]byte) []byte { return nil }},
		{"half a block", "/block/", half},
		{"a flipped block", "/block/", flip},
		{"a missing segment", "/feed/", nil},
		{"a missing block", "/block/", nil},
	} {
		keys := s.bucket.objects("test/")
		var victim string
		for _, key := range keys {
			if strings.Contains(key, damage.within) {
				victim = key // the last one
			}
		}
		heal, word := s.bucket.hide(victim), "missing"
		if damage.do != nil {
			heal()
			whole := s.bucket.read(victim)
			s.bucket.tamper(victim, damage.do(bytes.Clone(whole)))
			heal, word = func() { s.bucket.tamper(victim, whole) }, "damaged"
		}
		r := s.follow()
		s.says(r.Process, " is "+word+": ")
		s.says(r.Process, victim)
		if st, err := s.standing(r.api()); err == nil {
			want, err := s.standing(s.api)
			if err != nil || st.Seq >= want.Seq {
				t.Errorf("%s: the replica is at row %d of %d: %v", damage.name, st.Seq, want.Seq, err)
			}
		}
		heal()
		s.caughtUp(r)
		r.Kill()
		s.replicas = nil
	}
}

// A replica whose own file rots is found out by digests: by hand, and in the long form by those that the writer ships, each
// of which sums up a thousand heights that are settled.
func TestAFlippedBitInAReplicaIsNoticed(t *testing.T) {
	t.Parallel()
	s := newSite(t, newDevnet(t, few), few, nobody)
	r := s.follow()
	s.mine(10)
	if accepting() {
		s.mine(990 + int(few.final))
	}
	s.caughtUp(r)
	r.Kill()
	if writer, own := s.printed(s.dsn), s.printed("sqlite://"+r.file); writer != own {
		t.Fatalf("before anything rots, the writer's digests are\n%s, the replica's\n%s", writer, own)
	}
	rot(t, r.file)
	if s.printed(s.dsn) == s.printed("sqlite://"+r.file) {
		t.Error("the digest does not notice a flipped bit")
	}
	if !accepting() {
		return
	}
	r.restart()
	testenv.Eventually(t, func() error {
		s.mine(1) // digests travel with rows
		if !strings.Contains(r.Log.String(), "digest differs from the writer's") {
			return errors.New("the replica has not logged that it differs")
		}
		return nil
	})
	s.ready(r.Process, false)
}

// printed is what `firstseen digest` says of a database.
func (s *site) printed(dsn string) string {
	s.t.Helper()
	out, stderr, code := binary.Once(s.t, nil, "digest", "--db", dsn, "--json")
	if code != 0 || out == "" {
		s.t.Fatalf("digest: %d %s", code, stderr)
	}
	return out
}

// rot flips a bit of the payload of one block in a database that nobody has open.
func rot(t *testing.T, file string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var id uint64
	var payload []byte
	if err := db.QueryRowContext(t.Context(), "SELECT id, payload FROM records WHERE number = 5").Scan(&id, &payload); err != nil {
		t.Fatal(err)
	}
	payload[len(payload)/2] ^= 1
	if _, err := db.ExecContext(t.Context(), "UPDATE records SET payload = ? WHERE id = ?", payload, id); err != nil {
		t.Fatal(err)
	}
}

// A writer is frozen, another takes its place, and then the first one wakes: it ends by itself and says who has replaced
// it, and nothing that its successor wrote is overwritten.
func TestAWriterThatWakesEndsAndOverwritesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, newDevnet(t, few), few, testenv.Kafka(t))
	r := s.follow()
	s.mine(6)
	s.shipped()
	for _, alive := range []int{0, 3} { // blocks that come as the first one wakes
		sleeper := s.ship
		if err := sleeper.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		s.mine(3) // news that the sleeper would ship, too
		s.ship = s.start(s.shipping()...)
		s.shipped()
		before := s.sums()
		if err := sleeper.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		s.mine(alive)
		if err := sleeper.Wait(t); err == nil {
			t.Errorf("the writer that was replaced ended without an error")
		}
		s.says(sleeper, "another writer has taken over")
		s.shipped()
		after := s.sums()
		for key, sum := range before {
			if after[key] != sum {
				t.Errorf("%s was changed or taken away", key)
			}
		}
	}
	s.caughtUp(r)
	s.follow()
	s.converge()
	s.sameDigests()
}

// sums are the digests of all objects that never change.
func (s *site) sums() map[string][sha256.Size]byte {
	s.t.Helper()
	out := map[string][sha256.Size]byte{}
	for _, key := range s.bucket.objects("test/") {
		if strings.Contains(key, "/feed/") || strings.Contains(key, "/block/") || strings.Contains(key, "/header/") {
			out[key] = sha256.Sum256(s.bucket.read(key))
		}
	}
	return out
}

// Ship is killed at random points, over and over: what it left is adopted, and no row is missing or there twice. Who
// listens to a replica hears each row once and in order.
func TestShipIsKilledAtRandomPoints(t *testing.T) {
	t.Parallel()
	kills := 4
	if accepting() {
		kills = 50
	}
	random := seeded(t)
	s := newSite(t, newDevnet(t, few), few, testenv.Kafka(t))
	s.mine(1)
	first := s.follow()
	s.caughtUp(first)
	live := listen(t, first.api())
	for kill := range kills {
		s.mine(1 + random.IntN(8))
		moment(random)
		s.reship()
		if kill%5 == 4 {
			s.reorg(1 + random.Uint64N(few.safe))
		}
	}
	s.follow()
	s.converge()
	live.heard(s)
	s.sameDigests()
}

package faults

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// Sessions of a made-up database: it answers every command with the packet OK, and a statement to prepare with number 7.
func startDatabase(t *testing.T) (addr string, commands chan string) {
	t.Helper()
	l := listen(t)
	commands = make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					packet, err := readPacket(in)
					if err != nil {
						return
					}
					commands <- string(packet[packetHeader:])
					if _, err := c.Write(packetOf(1, 0, "\x07\x00\x00\x00\x00")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), commands
}

func packetOf(sequence, kind byte, body string) []byte {
	packet := binary.LittleEndian.AppendUint32(nil, uint32(1+len(body)))
	packet[3] = sequence
	return append(append(packet, kind), body...)
}

type sqlClient struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

func dialMySQL(t *testing.T, p *MySQLProxy) *sqlClient {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &sqlClient{t, c, bufio.NewReader(c)}
}

func (s *sqlClient) ask(kind byte, body string) error {
	s.t.Helper()
	if _, err := s.c.Write(packetOf(0, kind, body)); err != nil {
		s.t.Fatal(err)
	}
	_, err := readPacket(s.in)
	return err
}

func TestCommitIsCaughtBeforeAndAfter(t *testing.T) {
	t.Parallel()
	addr, commands := startDatabase(t)
	for name, at := range map[string]CommitPoint{"before": BeforeCommit, "after": AfterCommit} {
		p, err := NewMySQLProxy(addr)
		if err != nil {
			t.Fatal(err)
		}
		caught := make(chan bool, 1)
		p.Catch(at, "INSERT INTO records", func() bool { caught <- true; return false })
		s := dialMySQL(t, p)
		for _, step := range []struct {
			kind byte
			text string
		}{
			{comStmtPrepare, "INSERT INTO records VALUES (?)"},
			{comQuery, "START TRANSACTION"}, {comQuery, "SELECT 1"}, {comQuery, "COMMIT"}, // of no interest
			{comQuery, "START TRANSACTION"}, {comStmtExecute, "\x07\x00\x00\x00"},
		} {
			if err := s.ask(step.kind, step.text); err != nil {
				t.Fatalf("%s: %q: %v", name, step.text, err)
			}
			<-commands
		}
		if len(caught) > 0 {
			t.Errorf("%s: caught too early", name)
		}
		if err := s.ask(comQuery, "COMMIT"); err != io.EOF {
			t.Errorf("%s: COMMIT was answered: %v", name, err)
		}
		<-caught
		if reached := len(commands) == 1; reached != (at == AfterCommit) {
			t.Errorf("%s: the database saw the COMMIT: %v", name, reached)
		}
		for len(commands) > 0 {
			<-commands
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestASessionGoesOnAfterItWasHeldUp(t *testing.T) {
	t.Parallel()
	addr, _ := startDatabase(t)
	p, err := NewMySQLProxy("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readPacket(dialMySQL(t, p).c); err == nil {
		t.Error("an answer without a database")
	}
	p.Target(addr)
	p.Catch(BeforeCommit, "", func() bool { return true })
	s := dialMySQL(t, p)
	for _, text := range []string{"UPDATE t SET x = 1", "COMMIT", "COMMIT"} {
		if err := s.ask(comQuery, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := readPacket(s.in); err == nil {
		t.Error("an answer from a proxy that is closed")
	}
}

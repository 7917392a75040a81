package client

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestKernelGivesUpOnAPeerThatIsGone(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := tcpDialer.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var millis int
	var bad error
	if err := raw.Control(func(fd uintptr) {
		millis, bad = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); err != nil || bad != nil {
		t.Fatal(err, bad)
	}
	if millis <= 0 || millis > 30_000 {
		t.Errorf("unacknowledged bytes are waited for %d ms", millis)
	}
}

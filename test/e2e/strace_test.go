package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firstseen/firstseen/test/process"
)

// sickDisk has every fsync and fdatasync of a process fail with EIO until heal is called, as those of a dying disk do.
// It returns once the first has failed, which trouble must bring about.
func sickDisk(t *testing.T, victim *process.Process, trouble func()) (heal func()) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace: run `make test`, which installs it")
	}
	said := &process.Tail{}
	cmd := exec.Command("strace", "-f", "-q", "-p", fmt.Sprint(victim.Pid()),
		"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // it lets go of the process then
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // a signal ended it
		close(ended)
	}()
	heal = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}
	t.Cleanup(heal)
	eventually(t, time.Minute, func() error {
		select {
		case <-ended:
			if strings.Contains(said.String(), "attach") {
				t.Skipf("needs strace to be allowed to attach to a process: %s", said)
			}
			t.Fatalf("the process did not survive its disk: %s\n%s", said, victim.Log)
		default:
		}
		trouble()
		if !strings.Contains(said.String(), "EIO") {
			return fmt.Errorf("no fsync failed yet: %s", said)
		}
		return nil
	})
	return heal
}

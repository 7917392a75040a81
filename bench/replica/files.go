package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/firstseen/firstseen/internal/store"
)

// copyFile copies a database that may be in use.
func copyFile(ctx context.Context, from, to string) (err error) {
	db, err := openFile(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)
	return err
}

// running is a store that takes offers.
type running struct {
	*store.Store
	stop  context.CancelFunc
	ended chan error
}

func openRunning(ctx context.Context, dsn string) (*running, error) {
	s, err := store.Open(ctx, store.Options{DSN: dsn})
	if err != nil {
		return nil, err
	}
	live, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{s, stop, make(chan error, 1)}
	go func() { r.ended <- s.Run(live) }()
	return r, nil
}

func (r *running) close() error {
	r.stop()
	return errors.Join(<-r.ended, r.Close())
}

// cpuOf is the processor time that processes have used so far, 0 where the system does not tell.
func cpuOf(all []*served) (sum time.Duration) {
	for _, s := range all {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/stat")
		if err != nil {
			return 0
		}
		// Behind the name, which may hold anything, user and system time are the 12th and 13th fields, in hundredths.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, field := range fields[11:13] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0
			}
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}

// effort is what something took: time, and the processor time of this process.
type effort struct{ wall, cpu time.Duration }

// stopwatch is when it began.
type stopwatch struct {
	at  time.Time
	cpu time.Duration
}

func begin() stopwatch { return stopwatch{time.Now(), processTime()} }

func (s stopwatch) spent() effort { return effort{time.Since(s.at), processTime() - s.cpu} }

func processTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

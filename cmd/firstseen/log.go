package main

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/sirupsen/logrus"
)

// newLog is the one place where logging is set up: text for a person at a terminal, JSON for a collector.
func newLog(c LogConfig, w io.Writer) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(w)
	level, err := logrus.ParseLevel(c.Level)
	if err != nil {
		return nil, usagef("log.level %q: use trace, debug, info, warn or error", c.Level)
	}
	log.SetLevel(level)
	switch strings.ToLower(c.Format) {
	case "text":
	case "json":
		log.SetFormatter(&logrus.JSONFormatter{})
	case "auto":
		if !terminal(w) {
			log.SetFormatter(&logrus.JSONFormatter{})
		}
	default:
		return nil, usagef("log.format %q: use auto, text or json", c.Format)
	}
	return log, nil
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// redisLog takes what the Redis client would print to stderr by itself: each failed dial, which presence reports as the
// one change of state that it is.
type redisLog struct{ log logrus.FieldLogger }

// Printf implements go-redis's logger.
func (r redisLog) Printf(_ context.Context, format string, args ...any) {
	r.log.Debugf(format, args...)
}

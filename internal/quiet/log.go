package quiet

import (
	"io"

	"github.com/sirupsen/logrus"
)

// Log returns l, or where there is none a log that is thrown away.
func Log(l logrus.FieldLogger) logrus.FieldLogger {
	if l != nil {
		return l
	}
	discard := logrus.New()
	discard.SetOutput(io.Discard)
	return discard
}

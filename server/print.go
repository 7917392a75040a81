package server

import (
	"io"
	"net/netip"
	"strconv"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
)

// printer writes one line per payload, in the form of the original demo server: "DATA - ip:port - payload", newlines as
// \n. Other characters that a terminal would act on are escaped too, since anybody can send a payload.
type printer struct {
	w   io.Writer // nil: nothing is printed
	log logrus.FieldLogger

	mu   sync.Mutex // guards what follows and the writer
	buf  []byte
	dead bool // the writer failed; nothing more is printed
}

func (p *printer) line(from netip.AddrPort, payload []byte) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return
	}
	p.buf = append(p.buf[:0], "DATA - "...)
	p.buf = from.AppendTo(p.buf)
	p.buf = append(p.buf, " - "...)
	p.buf = append(appendShown(p.buf, payload), '\n')
	if _, err := p.w.Write(p.buf); err != nil {
		p.dead = true
		p.log.WithError(err).Error("cannot print payloads; printing ends")
	}
	if cap(p.buf) > keepRoom {
		p.buf = nil
	}
}

// appendShown appends payload as one printable line.
func appendShown(dst, payload []byte) []byte {
	for len(payload) > 0 {
		r, size := utf8.DecodeRune(payload)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, `\x`...), hexByte(payload[0])...)
		case unicode.IsPrint(r):
			dst = append(dst, payload[:size]...)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			dst = append(dst, quoted[1:len(quoted)-1]...)
		}
		payload = payload[size:]
	}
	return dst
}

func hexByte(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

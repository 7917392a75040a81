package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/firstseen/firstseen/schema"
)

const (
	benchChain  = 1337
	payloadSize = 450
)

// blocks are consecutive blocks of one chain as an observer saw them, with payloads of 450 bytes that differ.
func blocks(n int, observer string) []*schema.Offer {
	out := make([]*schema.Offer, n)
	parent := schema.Hash{}
	now := time.Now()
	filler := strings.Repeat("x", payloadSize)
	for i := range out {
		hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
		payload := (fmt.Sprintf("<p>%d</p>", i) + filler)[:payloadSize]
		out[i] = &schema.Offer{
			Chain: benchChain, Key: schema.Hash(hash).Key(),
			Header:      &schema.Header{Hash: hash, Parent: parent, Number: uint64(i + 1), Time: now},
			ContentType: "text/html", Payload: []byte(payload), Observer: observer, Node: "geth-1",
			Origin: schema.OriginHead, Server: "server-1", Remote: "127.0.0.1", ObservedAt: now, ReceivedAt: now,
		}
		parent = hash
	}
	return out
}

// Package client is the observer: it follows one Ethereum chain through one or more nodes, renders every block it sees
// and pushes it to a server, which says whether it was the first.
//
//	nodes ── follower ── outbox ── link ── server
//
// The follower asks a node for the latest head, walks from it back to what it has finished, and puts the blocks in
// between into the outbox, oldest first. A block is finished once the outbox took it: from then on it is the link's to
// deliver. The link keeps each entry until the server has said that it is durable, and sends it again on the next
// connection otherwise. An outbox that is full stops the follower, not the other way round: what was not taken is read
// from the chain again.
package client

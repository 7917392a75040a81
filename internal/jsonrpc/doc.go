// Package jsonrpc reads JSON-RPC requests strictly and writes answers to them, for whoever serves them: over HTTP or
// WebSocket, from nodes or from a store.
//
// A request is decoded once. Its method is compared in decoded form and, where it is passed on, a new request is encoded
// from what was decoded, so that nobody behind reads anything that the checks have not seen. It follows JSON-RPC 2.0 and
// the conventions of Ethereum's execution API (EIP-1474).
package jsonrpc

// Package devnet makes small Ethereum networks to test against: real blocks with real transactions, on demand or by
// the clock, with nodes that misbehave when told to.
//
// Net is one chain in this process behind several JSON-RPC endpoints, each of which can lag, stall, lie or fall silent.
// Geths are real, peered geth processes that follow the same kind of chain through the Engine API. Both reorganise at
// an exact fork point, in one step, without the head ever dipping in between.
//
// Endpoints speak JSON-RPC 2.0 over HTTP; WebSocket subscriptions are not served.
package devnet

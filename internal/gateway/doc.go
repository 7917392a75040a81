// Package gateway lets anyone use a pool of Ethereum nodes as if it were one good node: it reads JSON-RPC requests
// strictly, passes on what is allowed, asks another node when one fails, and never shows a caller a head that goes back.
//
// A request is decoded once; its method is checked in decoded form and a new request is encoded from what was decoded,
// so that nothing reaches a node which the checks have not seen. It follows JSON-RPC 2.0 and the execution API's
// conventions; docs/GATEWAY.md is the statement for users.
package gateway

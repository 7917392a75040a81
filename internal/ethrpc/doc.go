// Package ethrpc answers Ethereum's read-only JSON-RPC (execution-apis) from a store of blocks, as the node would that
// showed them: its own JSON is handed on, field by field. What needs the chain's state cannot be answered from blocks and
// is refused with a reason, or asked of somebody else where that is configured.
package ethrpc

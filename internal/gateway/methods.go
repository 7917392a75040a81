package gateway

import (
	"fmt"
	"strings"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// call is one call on its way to a node.
type call struct {
	*jsonrpc.Call
	pinned bool // "latest" was replaced by a height

	*method // nil while it is not known to be allowed
}

// class says what may be done with a call that was not answered.
type class uint8

const (
	once  class = iota // never asked twice: it may have had its effect
	read               // asking again, or two nodes at once, changes nothing
	local              // the gateway answers by itself
)

// noTag is the place of the block in the parameters of a method that has none.
const noTag = -1

// method is what the gateway knows of a JSON-RPC method.
type method struct {
	name  string
	class class
	tag   int  // which parameter names the block
	byTip bool // without that parameter the method means the newest block
}

// known are the methods that are allowed unless told otherwise: those that read, and the one that hands in a signed
// transaction. Filters (eth_newFilter …) are not among them: they live on one node. Nor are those that use a node's own
// accounts.
func known() []method {
	plain := func(names ...string) (out []method) {
		for _, name := range names {
			out = append(out, method{name: name, class: read, tag: noTag})
		}
		return out
	}
	tagged := func(tag int, names ...string) (out []method) {
		for _, name := range names {
			out = append(out, method{name: name, class: read, tag: tag})
		}
		return out
	}
	all := plain("eth_chainId", "eth_gasPrice", "eth_maxPriorityFeePerGas", "eth_blobBaseFee", "eth_syncing", "eth_config",
		"eth_getBlockByHash", "eth_getHeaderByHash", "eth_getBlockTransactionCountByHash", "eth_getUncleCountByBlockHash",
		"eth_getUncleByBlockHashAndIndex", "eth_getTransactionByBlockHashAndIndex", "eth_getTransactionByHash",
		"eth_getRawTransactionByHash", "eth_getTransactionReceipt", "net_version", "net_listening", "web3_clientVersion",
		"web3_sha3")
	all = append(all, tagged(0, "eth_getBlockByNumber", "eth_getHeaderByNumber", "eth_getBlockReceipts",
		"eth_getBlockTransactionCountByNumber", "eth_getUncleCountByBlockNumber", "eth_getUncleByBlockNumberAndIndex",
		"eth_getTransactionByBlockNumberAndIndex", "eth_getLogs")...)
	all = append(all, tagged(1, "eth_getBalance", "eth_getCode", "eth_getTransactionCount", "eth_feeHistory",
		"eth_simulateV1")...)
	all = append(all, tagged(2, "eth_getStorageAt", "eth_getProof")...)
	for _, name := range []string{"eth_call", "eth_estimateGas", "eth_createAccessList"} {
		all = append(all, method{name: name, class: read, tag: 1, byTip: true})
	}
	return append(all,
		method{name: "eth_blockNumber", class: local, tag: noTag},
		method{name: "eth_sendRawTransaction", class: once, tag: noTag})
}

// banned are the namespaces that steer a node or hold its keys; no option opens them.
var banned = [...]string{"admin_", "debug_", "engine_", "miner_", "personal_", "clique_", "les_"}

// methods is the allowlist: the known ones and more, which are asked once as nothing is known of them.
func methods(more []string) (map[string]*method, error) {
	allowed := make(map[string]*method)
	for _, m := range known() {
		allowed[m.name] = &m
	}
	for _, name := range more {
		for _, prefix := range banned {
			if strings.HasPrefix(name, prefix) {
				return nil, fmt.Errorf("gateway: methods of %s* cannot be allowed", prefix)
			}
		}
		if !validMethod(name) {
			return nil, fmt.Errorf("gateway: %q is not the name of a method", name)
		}
		if allowed[name] == nil {
			allowed[name] = &method{name: name, class: once, tag: noTag}
		}
	}
	return allowed, nil
}

func validMethod(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for _, c := range []byte(name) {
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

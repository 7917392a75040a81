// Package nodepool decides, with reasons, which Ethereum nodes may be used: it probes each of them, believes only what
// can be recomputed, agrees on the chain's tip by corroboration, and has the stuck ones restarted.
package nodepool

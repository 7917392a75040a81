// Package replica carries a writer's store to any number of replicas over an object store: a Shipper turns the feed into
// immutable segments there, a Follower applies them to a store of its own. docs/adr/0015 has the format.
package replica

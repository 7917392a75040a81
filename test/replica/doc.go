// Package replica runs writer, ship and replicas as processes, with a real object store, broker and nodes between them,
// breaks them, and compares what they answer in the end.
package replica

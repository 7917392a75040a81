// Package invariants tells whether a run of observers, servers and a database kept what firstseen promises, whatever was
// done to them meanwhile.
//
// It holds three witnesses against each other: what passed between observers and servers, which a Recorder in between
// writes down; what the database holds in the end, which ReadTables reads; and the chain itself, which a Chronicle asks
// the node for, rendering each block without the code that observers use. Check compares them and names every rule that
// was broken.
package invariants

// Package netstring encodes and decodes netstrings, <length>:<content>, as D. J. Bernstein defines them
// ("Netstrings", 1997-02-01), over streams from peers that are not trusted.
//
// What it promises:
//
//   - Strict. The length is ASCII digits without a leading zero, a sign or a space; "0:," is the empty netstring.
//     A stream is refused at its first wrong byte, without waiting for the next one.
//   - Bounded. A length above the decoder's maximum is refused at the digit that passes it, before anything is
//     allocated; lengths of any number of digits cannot overflow. A frame within the maximum costs memory only as its
//     bytes arrive: at most about twice what the peer really sent.
//   - Cheap. Content is handed out where it was read, without a copy; in the steady state a frame costs no allocation.
//     A decoder that waits between frames holds no buffer beyond 64 bytes.
//   - Final. After an error every call returns that same error; a broken stream is never resynchronized.
//
// testdata/vectors.json states the same for other languages: streams, the frames they hold, and for bad ones the kind
// of the error and the offset of the byte that is refused.
package netstring

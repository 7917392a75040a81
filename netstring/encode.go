package netstring

import "strconv"

// Append appends the netstring of content to dst and returns the extended slice. It allocates only when dst lacks
// EncodedLen(len(content)) bytes of room. It refuses nothing: a maximum is the decoder's matter.
func Append(dst, content []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(content)), 10)
	dst = append(dst, ':')
	dst = append(dst, content...)
	return append(dst, ',')
}

// EncodedLen returns how many bytes the netstring of n bytes of content takes. n must not be negative.
func EncodedLen(n int) int {
	digits := 1
	for m := n; m >= 10; m /= 10 {
		digits++
	}
	return digits + len(":") + n + len(",")
}

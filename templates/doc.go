// Package templates renders a block into the payload that observers send: by one of three embedded templates, or by
// one of the user's own.
//
// # Same block, same bytes
//
// A payload holds facts of the block alone, nothing of who observed it, when, or through which node, and nothing out of
// receipts, which not every node gives. So all observers render the same bytes. Lines end in LF, and no payload ends in
// one: a single newline at the very end of a template file is not part of the template.
//
// # What a template sees
//
// Every value is a number or printable ASCII text:
//
//	.Chain .Number .GasLimit .GasUsed .Timestamp   numbers; the timestamp in seconds since 1970-01-01 UTC
//	.Time                                          the same as 2006-01-02T15:04:05Z; "" outside the years 1 to 9999
//	.Hash .Parent .StateRoot .FeeRecipient         lower-case hex behind 0x
//	.BaseFee                                       wei, decimal; "" before London
//	.ExtraData                                     hex behind 0x
//	.ExtraText                                     extra data as text: bytes other than 0x20 to 0x7e become "."
//	.TransactionCount                              how many transactions the block has
//	.Transactions                                  the first 3,000 of them, in order, each with
//	    .Index .Hash .From .To .Value              To is "" for a contract creation; Value is wei, decimal
//
// Besides the actions of text/template there are the functions and, or, not, eq, ne, lt, le, gt, ge, len, index and
// slice of that package, and
//
//	json S              S as a JSON string, quotes included
//	printf FORMAT ...   %d, %x, %X, %s and %v with flags and a width of at most 64, of numbers, strings and booleans
//
// # Rendering the embedded templates elsewhere
//
// Only .ExtraText needs escaping. In block.html the six characters & < > " ' + become &amp; &lt; &gt; &#34; &#39; &#43;
// as html/template writes them. In block.json a backslash goes before " and \, and the whole is what other languages
// print with an indent of two spaces (json.dumps(block, indent=2) in Python). In block.txt nothing is escaped and "-"
// stands for an empty value. The files in testdata pin this down: each .json there holds everything that the .html and
// .txt beside it were rendered from, the time being derived from the timestamp.
//
// # A template of one's own
//
// It is code that the operator vouches for, and still cannot hurt: see Load.
package templates

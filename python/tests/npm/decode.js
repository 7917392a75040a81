// Decodes hexadecimal streams, one a line, with the npm package netstring: prints the frames of each and whether it refused.
const { nsPayload, nsLength } = require("netstring");
const { createInterface } = require("node:readline");

createInterface({ input: process.stdin }).on("line", (line) => {
  const frames = [];
  let stream = Buffer.from(line, "hex"), refused = false;
  try {
    for (let length; stream.length && (length = nsLength(stream)) >= 0 && length <= stream.length;) {
      frames.push(nsPayload(stream).toString("hex"));
      stream = stream.subarray(length);
    }
  } catch {
    refused = true;
  }
  console.log(JSON.stringify({ frames, refused, rest: stream.length }));
});

// Says of each case whether @sigstore/verify accepts it: verifyCheckpoint and verifyMerkleInclusion.

import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [packages, file] = process.argv.slice(2);
const require = createRequire(join(packages, "package.json"));
const inside = join(packages, "node_modules/@sigstore/verify/dist/tlog");
const { verifyCheckpoint } = require(join(inside, "checkpoint.js"));
const { verifyMerkleInclusion } = require(join(inside, "merkle.js"));

const ED25519 = Buffer.from("302a300506032b6570032100", "hex");

function judge(it) {
  const [name, id, ...rest] = it.key.split("+");
  const bytes = Buffer.from(rest.join("+"), "base64");
  if (bytes[0] !== 1) throw new Error("not an Ed25519 key");
  const der = Buffer.concat([ED25519, bytes.subarray(1)]);
  const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
  const tlog = { logID: Buffer.from(id, "hex"), baseURL: name, publicKey };
  const entry = {
    canonicalizedBody: Buffer.from(it.leaf, "base64"),
    inclusionProof: {
      logIndex: String(it.index),
      hashes: it.path.map((hash) => Buffer.from(hash, "base64")),
      checkpoint: { envelope: it.note },
    },
  };
  const checkpoint = verifyCheckpoint(entry, [tlog]);
  if (checkpoint.origin !== name) throw new Error("of another log");
  verifyMerkleInclusion(entry, checkpoint);
}

for (const it of JSON.parse(readFileSync(file, "utf8"))) {
  try {
    judge(it);
    console.log("accepted");
  } catch (error) {
    console.log(`refused: ${String(error.message).replaceAll("\n", " ")}`);
  }
}

"""Says of each case whether tlog-scales accepts it; with a log, how it proves the records itself."""

import base64
import json
import sys
from pathlib import Path

from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint, InclusionProof
from tlog_scales.utils import sha256


def judge(case):
    key = Vkey.from_string(case["key"])
    checkpoint = Checkpoint.from_text(case["note"])
    checkpoint.verify(key)
    if checkpoint.origin != key.name:
        raise ValueError("of another log")
    path = [base64.b64decode(hash) for hash in case["path"]]
    leaf = sha256(b"\0" + base64.b64decode(case["leaf"]))
    InclusionProof(case["index"], checkpoint.size, path).check(leaf, checkpoint.root_hash)


def prove(log, indices):
    reader = TilesReader(LocalBackend(Path(log)))
    checkpoint = reader.get_checkpoint()
    if reader.calculate_root_hash() != checkpoint.root_hash:
        raise ValueError("the tiles have another root")
    for index in indices:
        hashes = reader.get_inclusion_proof(index, checkpoint.size).node_hashes
        lines = [base64.b64encode(hash).decode() for hash in hashes]
        entry = base64.b64encode(reader.get_entry(index)).decode()
        print(json.dumps({"index": index, "path": lines, "leaf": entry}))


if sys.argv[1] == "prove":
    prove(sys.argv[2], map(int, sys.argv[3:]))
else:
    for case in json.loads(Path(sys.argv[1]).read_text()):
        try:
            judge(case)
            print("accepted")
        except Exception as error:
            print("refused:", type(error).__name__, " ".join(str(error).split()))

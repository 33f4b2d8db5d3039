"""Says of each case whether sigstore's verification of transparency logs accepts it."""

import base64
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint, verify_checkpoint
from sigstore.errors import VerificationError


class Keyring:
    """One key, as sigstore asks for it."""

    def __init__(self, public):
        self.key = Ed25519PublicKey.from_public_bytes(public)

    def verify(self, *, key_id, signature, data):
        try:
            self.key.verify(signature, data)
        except Exception as error:
            raise VerificationError("the signature does not hold") from error


def judge(case):
    name, key_id, encoded = case["key"].split("+", 2)
    public = base64.b64decode(encoded, validate=True)
    if public[0] != 1:
        raise VerificationError("not an Ed25519 key")
    checkpoint = SignedCheckpoint.from_text(case["note"]).checkpoint
    if checkpoint.origin != name:
        raise VerificationError("of another log")
    proof = SimpleNamespace(
        log_index=case["index"],
        tree_size=checkpoint.log_size,
        hashes=[base64.b64decode(hash) for hash in case["path"]],
        root_hash=bytes.fromhex(checkpoint.log_hash),
        checkpoint=SimpleNamespace(envelope=case["note"]),
    )
    inner = SimpleNamespace(
        inclusion_proof=proof,
        canonicalized_body=base64.b64decode(case["leaf"]),
        log_id=SimpleNamespace(key_id=bytes.fromhex(key_id)),
    )
    entry = SimpleNamespace(_inner=inner)
    verify_checkpoint(Keyring(public[1:]), entry)
    verify_merkle_inclusion(entry)


for case in json.loads(Path(sys.argv[1]).read_text()):
    try:
        judge(case)
        print("accepted")
    except Exception as error:
        print("refused:", type(error).__name__, " ".join(str(error).split()))

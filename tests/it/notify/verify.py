"""Says of each message whether the published library, or an Ed25519 that we did not write, accepts it."""

import base64
import json
import sys
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook


def by_public_key(key, headers, body):
    """What the specification says of `v1a`."""
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        raise ValueError("too old or too new")
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signatures = [one.split(",", 1) for one in headers["webhook-signature"].split(" ")]
    for signature in (base64.b64decode(text) for version, text in signatures if version == "v1a"):
        try:
            return public.verify(signature, content)
        except Exception:
            continue
    raise ValueError("no signature fits")


def judge(case):
    key, headers, body = case["key"], case["headers"], base64.b64decode(case["body"])
    if key.startswith("whpk_"):
        by_public_key(key, headers, body)
    else:
        Webhook(key).verify(body, headers)


for case in json.load(open(sys.argv[1])):
    try:
        judge(case)
        print("accepted")
    except Exception as error:
        print("refused:", error)

"""Asks seen.v1.SeenService with grpc-core's client, by raw bytes, and prints what it is told.

grpcio.py ADDRESS (METHOD HEX)...
"""

import json
import sys

import grpc

# Longer than any machine is busy; no test waits for it.
PATIENCE_S = 50


def told(call, message, **options):
    try:
        answer, ended = call.with_call(message, timeout=PATIENCE_S, **options)
        code, details = ended.code(), ended.details()
    except grpc.RpcError as error:
        answer, ended, code, details = b"", error, error.code(), error.details()
    trailers = sorted(
        (name, value.hex() if isinstance(value, bytes) else value)
        for name, value in ended.trailing_metadata() or ()
        if name != "date"
    )
    print(json.dumps({"answer": answer.hex(), "code": code.name, "details": details, "trailers": trailers}))


address, asks = sys.argv[1], sys.argv[2:]
with grpc.insecure_channel(address) as channel:
    calls = {
        method: channel.unary_unary("/seen.v1.SeenService/" + method)
        for method in ("Filter", "Mark", "Nothing")
    }
    pairs = list(zip(asks[::2], asks[1::2]))
    for method, message in pairs:
        # How much time is left differs from call to call; the message that tells it is asked without.
        told(calls[method], bytes.fromhex(message)) if b"time" not in bytes.fromhex(message) else print(
            json.dumps({"answer": len(calls[method](bytes.fromhex(message)))})
        )
    first = bytes.fromhex(pairs[0][1])
    told(calls["Filter"], first, compression=grpc.Compression.Gzip)
    told(calls["Filter"], first, metadata=(("seen-tag", "push"),))
    told(calls["Nothing"], first)

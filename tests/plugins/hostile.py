"""A worker that keeps to the protocol until it does not. The mode says where."""

import json
import random
import struct
import subprocess
import sys
import time

MODE = sys.argv[1]
MANIFEST = {
    "name": "hostile",
    "version": "1",
    "abi": [9, 9, 0] if MODE == "other-border" else [1, 0, 0],
    "components": [
        {"kind": kind, "id": id, "doc": "A test", "parameters": {"type": "object", "properties": {}}}
        for kind, id in (("simulator", "world"), ("model", "model"))
    ],
}


def send(head, parts=()):
    head = json.dumps(dict(head, parts=[[name, len(data)] for name, data in parts])).encode()
    sys.stdout.buffer.write(b"LCNA" + struct.pack("<I", len(head)) + head + b"".join(data for _, data in parts))
    sys.stdout.buffer.flush()


def receive():
    begin = sys.stdin.buffer.read(8)
    if len(begin) < 8:
        sys.exit(0)
    head = json.loads(sys.stdin.buffer.read(struct.unpack("<I", begin[4:])[0]))
    return head, {name: sys.stdin.buffer.read(length) for name, length in head["parts"]}


if MODE == "text":
    print("hello, I am no plugin", flush=True)
if MODE == "silent":
    time.sleep(600)
if MODE in ("grandchild", "orphan"):
    subprocess.Popen(["sleep", "600"])
send({"manifest": MANIFEST})
while True:
    head, parts = receive()
    if head["do"] in ("make", "drop", "fit"):
        if "call" in head:
            send({"re": head["call"]})
        if MODE == "reads-no-more" and head["do"] == "make":
            time.sleep(600)
    elif head["do"] in ("save", "tables"):
        send({"re": head["call"]}, [("model", b"nothing")] if head["do"] == "save" else [])
    elif MODE == "damaged" and head["do"] == "predict":
        # Tables of the call itself, each time with other bytes wrong.
        send({"re": head["call"], "written": head["values"]["rows"]})
    elif MODE == "damaged":
        data = bytearray(random.Random(head["call"]).randbytes(400))
        data[:4] = b"\xff\xff\xff\xff"
        send({"re": head["call"]}, [("cells", bytes(data)), ("genes", bytes(data))])
    elif MODE == "huge":
        begin = b"\xff\xff\xff\xff" + struct.pack("<I", 0x7FFFFFF0)
        send({"re": head["call"]}, [("cells", begin), ("genes", begin)])
    elif MODE in ("boasts", "boasts-and-waits"):
        head = json.dumps({"re": head["call"], "parts": [["cells", 1 << 62]]}).encode()
        sys.stdout.buffer.write(b"LCNA" + struct.pack("<I", len(head)) + head + bytes(1000))
        sys.stdout.buffer.flush()
        if MODE == "boasts":
            sys.exit(0)
        time.sleep(600)
    elif MODE == "boasts-of-its-head":
        sys.stdout.buffer.write(b"LCNA" + struct.pack("<I", (1 << 32) - 1) + bytes(1000))
        sys.stdout.buffer.flush()
        time.sleep(600)
    elif MODE == "unknown":
        send({"re": 999999})
        send({"re": head["call"], "error": {"kind": 77, "message": "a kind of error\nthat nobody knows"}})
    elif MODE == "garbage":
        sys.stdout.buffer.write(b"garbage" * 100)
        sys.stdout.buffer.flush()
        time.sleep(600)
    elif MODE == "orphan":
        sys.exit(5)
    elif MODE in ("grandchild", "sleeps"):
        time.sleep(600)
    else:
        send({"re": head["call"]})

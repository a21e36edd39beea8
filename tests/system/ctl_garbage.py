#!/usr/bin/env python3
"""ctl_garbage.py SOCKET ROUNDS SEED: throw anything at a daemon's control socket.

Root and an ordinary user send random bytes, frames cut short, wrong lengths, odd JSON, every
request with odd arguments, descriptors, and hold more connections than are allowed. Every complete
frame must be answered by one well-formed reply, or by the end of the connection. Prints totals.
"""
import array
import json
import os
import random
import socket
import struct
import sys
import time

PATH, ROUNDS, SEED = sys.argv[1], int(sys.argv[2]), sys.argv[3]
REQUEST_MAX = 256 << 10
rng = random.Random(SEED)
# Not those that would rightly end what the test goes on to use.
VERBS = """pool.status pool.events pool.dump pool.online pool.remove pool.shrink-device
pool.grow-device pool.rebalance pool.scrub pool.trim pool.set pool.history pool.add volume.create
volume.list
volume.status volume.set volume.resize volume.rename trash.list trash.restore mount.prepare mount
mount.list nothing""".split()
KEYS = """name volume device devices size_bytes type copies compression force what arg mountpoint
read_only transport value key to new_name max after owner dry_run cancel paths""".split()
total = {}


def count(what):
    total[what] = total.get(what, 0) + 1


def connect(timeout=10):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(PATH)                     # waits while the backlog is full
    s.settimeout(timeout)
    return s


def send(s, data):
    try:
        s.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        count("closed while sending")


def receive(s, n):
    data = b""
    while len(data) < n:
        try:
            more = s.recv(n - len(data))
        except ConnectionResetError:
            return None
        if not more:
            return None
        data += more
    return data


def reply(s):
    """The next reply, or None at the end of the connection."""
    while True:
        head = receive(s, 4)
        if head is None:
            return None
        body = receive(s, struct.unpack("<I", head)[0])
        assert body is not None, "a reply cut short"
        message = json.loads(body.decode())
        if "progress" in message:
            continue
        assert message["ok"] is True or (message["error"] and message["code"]), message
        count("answered" if message["ok"] else "refused")
        return message


def frame(body):
    return struct.pack("<I", len(body)) + body


def odd_value(depth=0):
    pick = rng.randrange(12)
    if pick < 3 and depth < 5:
        return [odd_value(depth + 1) for _ in range(rng.randrange(4))]
    if pick < 5 and depth < 5:
        return {rng.choice(KEYS): odd_value(depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice([None, True, False, 0, -1, 1, 2, 2**31, 2**63 - 1, 2**63, 2**64, -2**63, 1.5,
                       1e300, "", "x", "fs", "block", "home", "vm", "../../etc", "a" * 5000, "\0",
                       "%s%n%s", "sb", "node", "tree", "0", "18446744073709551616", "\u20ac\ud83d"])


def odd_request():
    body = {"verb": rng.choice(VERBS)}
    if rng.random() < 0.95:
        body["args"] = odd_value() if rng.random() < 0.1 else {
            rng.choice(KEYS): odd_value() for _ in range(rng.randrange(7))}
    return json.dumps(body).encode()


def garbage():
    s = connect()
    send(s, rng.randbytes(rng.choice([1, 3, 4, 5, 100, 5000, 300000])))
    s.close()
    count("garbage")


def cut_short():
    s = connect()
    data = frame(odd_request())
    send(s, data[:rng.randrange(len(data))])
    s.shutdown(socket.SHUT_WR)
    while reply(s):
        pass
    s.close()
    count("cut short")


def wrong_length():
    s = connect()
    send(s, struct.pack("<I", rng.choice([0, REQUEST_MAX + 1, 2**31, 2**32 - 1])) + b"{}" * 50)
    message = reply(s)
    assert message is None or not message["ok"], message
    assert message is None or reply(s) is None, "goes on behind a wrong length"
    s.close()
    count("wrong length")


def odd_bodies():
    s = connect()
    for _ in range(rng.randrange(1, 6)):
        body = rng.choice([
            b"null", b"[]", b"{}", b'"x"', b"{" * 1000, b'{"a":' * 100 + b"1" + b"}" * 100,
            b'{"verb":"' + b"v" * 100000 + b'","args":{}}', b'{"verb":"pool.status"}',
            b'{"verb":"pool.status","args":{"x":"' + b"y" * (REQUEST_MAX - 60) + b'"}}',
            b'{"verb":"\xff\xfe","args":{}}', b'{"verb":"pool.status","args":{}}x'])
        send(s, frame(body))
        if not reply(s):
            break
    s.close()
    count("odd bodies")


def requests():
    s = connect(60)
    for _ in range(rng.randrange(1, 20)):
        send(s, frame(odd_request()))
        if not reply(s):
            break
    s.close()
    count("connections with requests")


def descriptors():
    s = connect()
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(rng.choice([1, 2, 8, 9, 100]))]
    data = frame(odd_request())
    try:
        s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        reply(s)
    except (BrokenPipeError, ConnectionResetError):
        pass
    for fd in fds:
        os.close(fd)
    s.close()
    count("descriptors")


def slow():
    """One byte at a time, for a moment."""
    s = connect()
    data = frame(b'{"verb":"mount.list","args":{}}')
    for i in range(len(data)):
        s.sendall(data[i:i + 1])
    assert reply(s)["ok"]
    s.close()
    count("slow")


def many(n):
    """So many connections at once; how many are taken, the others are told."""
    held = []
    for _ in range(n):
        held.append(connect())
    taken = told = 0
    for s in held:
        send(s, frame(b'{"verb":"mount.list","args":{}}'))
        message = reply(s)
        if message and message["ok"]:
            taken += 1
        else:
            told += 1
            assert message is None or message["code"] == "EAGAIN", message
    return held, taken, told


def as_nobody(fn):
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            fn()
            os._exit(0)
        except BaseException as e:      # the exit status is all that counts
            print(f"as nobody: {e!r}", flush=True)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "failed as an ordinary user"


def hostile_user():
    held, taken, told = many(60)
    assert 1 <= taken <= 12 and taken + told == 60, (taken, told)
    s = connect()                       # still refused, and told so
    message = reply(s)
    assert message is None or message["code"] == "EAGAIN"
    for s in held:
        s.close()


KINDS = [garbage, cut_short, wrong_length, odd_bodies, requests, descriptors, slow]


def mixture(rounds):
    for _ in range(rounds):
        rng.choice(KINDS)()


def main():
    mixture(ROUNDS)
    as_nobody(lambda: mixture(ROUNDS // 2))
    as_nobody(hostile_user)
    held, taken, told = many(200)
    assert 50 <= taken <= 96 and taken + told == 200, (taken, told)
    for s in held:
        s.close()
    time.sleep(0.5)
    held, taken, told = many(20)
    assert taken == 20, "places are not given back"
    for s in held[:10]:
        s.send(b"\x40")                 # left open in the middle of a frame, as are the others
    time.sleep(0.2)
    slow()
    print(", ".join(f"{n} {what}" for what, n in sorted(total.items())))


main()

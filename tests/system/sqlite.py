#!/usr/bin/env python3
"""sqlite.py write MODE DB ACK: commit rows for ever, noting each committed row in ACK.
sqlite.py verify MODE DB ACK: integrity check, and every noted row is there.

MODE is wal or delete (the rollback journal). ACK lies on another file system.
"""
import hashlib
import os
import sqlite3
import sys


def text_of(n):
    return hashlib.sha256(str(n).encode()).hexdigest() * (1 + n % 40)


def open_db(path, mode):
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    got = db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0]
    assert got == mode, f"journal mode is {got}, not {mode}"
    db.execute("PRAGMA synchronous=EXTRA")     # FULL leaves out the directory
    db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, text TEXT)")
    db.execute("CREATE INDEX IF NOT EXISTS i ON t (text)")
    return db


def write(mode, path, ack):
    db = open_db(path, mode)
    n = (db.execute("SELECT max(n) FROM t").fetchone()[0] or 0) + 1
    out = os.open(ack, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        db.execute("BEGIN IMMEDIATE")
        last = n + n % 7
        for i in range(n, last + 1):
            db.execute("INSERT INTO t VALUES (?, ?)", (i, text_of(i)))
        if n > 2000:
            db.execute("DELETE FROM t WHERE n < ?", (n - 2000,))
        db.execute("COMMIT")
        # SQLite takes it for success when it cannot open the directory to sync it. The dead stay
        # dead: if the file system still answers, it could.
        os.statvfs(path)
        os.write(out, f"{last}\n".encode())
        n = last + 1


def verify(mode, path, ack):
    db = open_db(path, mode)
    result = db.execute("PRAGMA integrity_check").fetchall()
    assert result == [("ok",)], f"integrity_check: {result[:5]}"
    with open(ack, "rb") as f:
        acked = int(f.read().split()[-1])
    rows = db.execute("SELECT n, text FROM t ORDER BY n").fetchall()
    assert rows[-1][0] >= acked, f"row {acked} was committed, the last found is {rows[-1][0]}"
    for i, (n, text) in enumerate(rows):
        assert n == rows[0][0] + i, f"row {rows[0][0] + i} is missing"
        assert text == text_of(n), f"row {n} has wrong text"
    print(f"{mode}: {acked} rows committed, {len(rows)} kept, clean")


def main():
    try:
        {"write": write, "verify": verify}[sys.argv[1]](*sys.argv[2:])
    except (sqlite3.Error, OSError) as e:
        print(f"sqlite.py {sys.argv[1]}: {e}", file=sys.stderr)
        sys.exit(1)


main()

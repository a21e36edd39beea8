"""posix_lib: what the checks of posix*.py share."""
import ctypes
import errno
import os
import stat
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
CHECKS = []


def check(fn):
    CHECKS.append(fn)
    return fn


def fails(code, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except OSError as e:
        assert e.errno == code, f"errno {errno.errorcode.get(e.errno)}, not {errno.errorcode[code]}"
        return
    raise AssertionError(f"succeeded, should fail with {errno.errorcode[code]}")


def libc(name, *args):
    if getattr(LIBC, name)(*args) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def renameat2(a, b, flags):
    libc("renameat2", -100, a.encode(), -100, b.encode(), flags)


def fallocate(fd, mode, offset, length):
    libc("fallocate", fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))


def put(path, data=b"x"):
    with open(path, "wb") as f:
        f.write(data)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def opened(path, flags=os.O_RDWR | os.O_CREAT, mode=0o644):
    return os.open(path, flags, mode)


def as_user(uid, fn, gid=None, groups=()):
    """Run fn in a child with this user; its exception's text comes back."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(list(groups))
            os.setgid(uid if gid is None else gid)
            os.setuid(uid)
            fn()
            os.write(w, b"-")
        except BaseException as e:      # pylint: disable=broad-except
            line = traceback.extract_tb(e.__traceback__)[-1]
            for f in traceback.extract_tb(e.__traceback__):
                line = f if f.name == fn.__name__ else line
            os.write(w, f"line {line.lineno}: {e or repr(e)}".encode())
        os._exit(0)
    os.close(w)
    text = os.read(r, 1000).decode()
    os.close(r)
    os.waitpid(pid, 0)
    assert text == "-", text


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)

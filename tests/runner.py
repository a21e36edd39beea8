"""Runs the tests for tests/run: builds, then every test as a process with a time limit of its own.

A system test says what it needs in comment lines:
    # timeout: 300          seconds (default 180); three times that with --long and sanitizers
    # alone                 nothing else may run beside it
    # long                  part of --long alone
    # asan: A=1 B=2         also with the sanitizer build, with these variables set
"""
import argparse
import fnmatch
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SYSTEM = os.path.join(TOP, "tests/system")
BUILDS = {
    "release": ("build", ["--buildtype=release"]),
    "asan": ("build-asan", ["--buildtype=debug", "-Db_sanitize=address,undefined",
                            "-Db_lundef=false", "-Doptimization=1"]),
}
TAIL_LINES = 60


class Test:
    """One process. work: a folder to sweep afterwards is made for it."""

    def __init__(self, name, argv, timeout=180, env=None, alone=False, work=False, cwd=TOP):
        self.name = name
        self.argv = argv
        self.timeout = timeout
        self.env = env or {}
        self.alone = alone
        self.work = work
        self.cwd = cwd


class Results:
    def __init__(self, log_dir):
        self.log_dir = log_dir
        self.lock = threading.Lock()
        self.passed, self.skipped, self.failed = [], [], []

    def add(self, name, result, seconds, reason="", log=""):
        with self.lock:
            {"PASS": self.passed, "SKIP": self.skipped, "FAIL": self.failed}[result].append(name)
            text = f"{result} {name}" + (f": {reason}" if reason else "")
            print(f"{text} ({seconds:.1f} s)", flush=True)
            for line in re.findall(r"^total: .*", log, re.M) if result == "PASS" else ():
                print("    | " + line, flush=True)
            if result == "FAIL":
                lines = log.splitlines()[-TAIL_LINES:]
                print("\n".join("    | " + line for line in lines), flush=True)

    def finish(self, started):
        for name in self.failed:
            print(f"failed: {name}")
        print(f"took {time.monotonic() - started:.0f} s; logs: {os.path.relpath(self.log_dir)}")
        print(f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped",
              flush=True)
        return 1 if self.failed or not self.passed else 0


# ---- processes ----

running = {}            # pid -> work folder or None
running_lock = threading.Lock()


def sweep(work):
    if work and os.path.isdir(work):
        subprocess.run([os.path.join(SYSTEM, "sweep"), work], timeout=60, check=False)


def end(pid, work):
    """End a test: its daemons first, because a request to a hung daemon cannot be interrupted."""
    sweep(work)
    for sig, wait_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 0)):
        try:
            os.killpg(pid, sig)
        except ProcessLookupError:
            return
        time.sleep(wait_s)


def run_process(test, log_path):
    """Exit status (None: out of time)."""
    work = None
    env = {k: v for k, v in os.environ.items() if k != "TARN_LONG"}
    env.update(test.env)
    if test.work:
        work = tempfile.mkdtemp(prefix="tarn-test.", dir=os.environ.get("TMPDIR", "/var/tmp"))
        env["TARN_TEST_WORK"] = work
    with open(log_path, "wb") as log:
        p = subprocess.Popen(test.argv, cwd=test.cwd, env=env, stdin=subprocess.DEVNULL, stdout=log,
                             stderr=subprocess.STDOUT, start_new_session=True)
        with running_lock:
            running[p.pid] = work
        try:
            return p.wait(test.timeout)
        except subprocess.TimeoutExpired:
            end(p.pid, work)
            p.wait(30)
            return None
        finally:
            with running_lock:
                del running[p.pid]
            sweep(work)


def run_one(test, results):
    start = time.monotonic()
    path = os.path.join(results.log_dir, test.name.replace("/", ".") + ".log")
    try:
        status = run_process(test, path)
    except (OSError, subprocess.SubprocessError) as e:
        results.add(test.name, "FAIL", time.monotonic() - start, str(e))
        return
    with open(path, encoding="utf-8", errors="replace") as f:
        log = f.read()
    seconds = time.monotonic() - start
    if status == 0:
        results.add(test.name, "PASS", seconds, log=log)
    elif status == 77:
        reasons = re.findall(r"^SKIP: (.*)", log, re.M) or log.splitlines()[-1:]
        results.add(test.name, "SKIP", seconds, reasons[-1] if reasons else "no reason given")
    elif status is None:
        results.add(test.name, "FAIL", seconds, f"not done after {test.timeout} s", log)
    else:
        results.add(test.name, "FAIL", seconds, f"status {status}", log)


def run_all(tests, results, jobs):
    """Tests beside each other in `jobs` threads, then those that want to be alone."""
    queue = [t for t in tests if not t.alone]
    lock = threading.Lock()

    def worker():
        while True:
            with lock:
                if not queue:
                    return
                test = queue.pop(0)
            run_one(test, results)

    threads = [threading.Thread(target=worker) for _ in range(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for test in tests:
        if test.alone:
            run_one(test, results)


def interrupted(*_):
    with running_lock:
        left = list(running.items())
    for pid, work in left:
        end(pid, work)
    os._exit(130)


# ---- what there is to run ----

def build(kind, results):
    """Configure and compile; False when that fails."""
    folder, options = BUILDS[kind]
    path = os.path.join(TOP, folder)
    # Always configured, with the tests required: a folder made by others (the quickstart, say) may
    # know nothing of cmocka, and would silently leave the unit tests out.
    script = """dir=$1; shift
if [ -e "$dir/build.ninja" ]; then
    meson configure --clearcache "$dir"
    meson setup --reconfigure -Dtests=enabled "$@" "$dir"
else
    meson setup -Dtests=enabled "$@" "$dir"
fi
ninja -C "$dir"
"""
    test = Test(f"build/{kind}", ["sh", "-ec", script, "build", path] + options, timeout=1200)
    run_one(test, results)
    return test.name in results.passed


def meson_tests(kind, o):
    folder = os.path.join(TOP, BUILDS[kind][0])
    out = subprocess.run(["meson", "introspect", "--tests", folder], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    found = []
    for t in json.loads(out):
        suites = [s.split(":")[-1] for s in t["suite"]]
        scale = (3 if o.long else 1) * (2 if kind == "asan" else 1)
        if kind == "asan" and "sim" in suites:
            continue
        env = dict(t["env"])
        if o.long:
            env["TARN_LONG"] = "1"
        if kind == "asan" and suites[0] in ("model", "fault"):
            env["ASAN_OPTIONS"] = "detect_leaks=0"      # a simulated crash leaves everything behind
        found.append(Test(f"{kind}/{suites[0] if suites else 'test'}/{t['name']}", t["cmd"],
                          timeout=max(t["timeout"], 30) * scale, env=env,
                          alone=not t["is_parallel"], cwd=t["workdir"] or folder))
    return found


def sim_tests(o):
    """The simulator: meson runs its 5,000 seeds in the release build; here come the others."""
    sim = os.path.join(TOP, BUILDS["asan"][0], "tests/sim/sim")
    if not os.path.exists(sim):
        return []
    found = [Test("asan/sim/sim", [sim, "--seeds", "5001..5200"], timeout=900)]
    if o.long:
        release = os.path.join(TOP, BUILDS["release"][0], "tests/sim/sim")
        first = int(time.time())
        found.append(Test("release/sim/long",
                          [release, "--seeds", f"{first}..{first + 10000000}", "--seconds", "3600",
                           "--rate", "10"], timeout=2 * 3600, alone=True))
    return found


def system_tests(o):
    found = []
    for path in sorted(glob.glob(os.path.join(SYSTEM, "*"))):
        name = os.path.basename(path)
        if "." in name or name == "sweep" or not os.access(path, os.X_OK):
            continue
        with open(path, encoding="utf-8") as f:
            head = f.read(4000)
        if re.search(r"^# long$", head, re.M) and not o.long:
            continue
        m = re.search(r"^# timeout: (\d+)", head, re.M)
        timeout = (int(m.group(1)) if m else 180) * (6 if o.long else 1)
        alone = bool(re.search(r"^# alone", head, re.M))
        env = {"TARN_BUILD": os.path.join(TOP, "build")}
        if o.long:
            env["TARN_LONG"] = "1"
        found.append(Test(f"system/{name}", [path], timeout, env, alone, work=True))
        m = re.search(r"^# asan:(.*)", head, re.M)
        if m:
            more = dict(pair.split("=", 1) for pair in m.group(1).split())
            env = dict(env, TARN_BUILD=os.path.join(TOP, "build-asan"), **more)
            found.append(Test(f"system-asan/{name}", [path], timeout * 3, env, alone, work=True))
    found.sort(key=lambda t: -t.timeout)        # long ones first, so that none runs on alone
    return found


def static_tests():
    found = [Test("tidy", [os.path.join(TOP, "tests/tidy")])]
    scripts = []
    for pattern in ("tests/run", "tests/system/*", "tools/*", ".ci/run", "tests/unit/*.sh"):
        for path in sorted(glob.glob(os.path.join(TOP, pattern))):
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    first = f.readline()
                if b"bash" in first and (first.startswith(b"#!") or b"shellcheck" in first):
                    scripts.append(path)
    found.append(Test("shellcheck", ["shellcheck", "-x", "-S", "warning"] + scripts))
    return found


def wanted(o, test):
    return not o.only or any(fnmatch.fnmatchcase(test.name, f"*{p}*") for p in o.only)


def parse_args():
    a = argparse.ArgumentParser(prog="tests/run")
    a.add_argument("--long", action="store_true")
    a.add_argument("--only", action="append", metavar="PATTERN")
    a.add_argument("--jobs", type=int, default=min(3, (os.cpu_count() or 1) + 1))
    a.add_argument("--list", action="store_true")
    return a.parse_args()


def needed_builds(o):
    if not o.only:
        return list(BUILDS)
    asan = any("asan" in p for p in o.only)
    other = any("asan" not in p for p in o.only)
    return [k for k in BUILDS if (k == "asan" and asan) or (k == "release" and other)] \
        if not (asan and other) else list(BUILDS)


def main():
    started = time.monotonic()
    o = parse_args()
    log_dir = os.path.join(TOP, "build/test-logs")
    results = Results(log_dir)
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    static = [t for t in static_tests() if wanted(o, t)]
    if o.list:
        tests = static + [t for k in BUILDS if os.path.isdir(os.path.join(TOP, BUILDS[k][0]))
                          for t in meson_tests(k, o)] + sim_tests(o) + system_tests(o)
        print("\n".join(t.name for t in tests if wanted(o, t)))
        return 0
    os.makedirs(log_dir, exist_ok=True)
    run_all(static, results, o.jobs)
    if o.only and static and not any(wanted(o, t) for t in system_tests(o)) and \
            all(p in ("tidy", "shellcheck") for p in o.only):
        return results.finish(started)
    built = [k for k in needed_builds(o) if build(k, results)]
    tests = [t for k in built for t in meson_tests(k, o)]
    if "asan" in built:
        tests += sim_tests(o)
    for t in system_tests(o):
        if ("asan" if "asan" in t.name.split("/")[0] else "release") in built:
            tests.append(t)
    run_all([t for t in tests if wanted(o, t)], results, o.jobs)
    return results.finish(started)


if __name__ == "__main__":
    sys.exit(main())

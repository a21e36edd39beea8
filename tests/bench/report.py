"""From the results of all rounds to the tables."""
from statistics import median

import bars

# The bar: no Tarn cell behind these, and random writes at depth 32 not behind the raw file.
NEIGHBOURS = ("qsd-qcow2", "zfs-fuse")
RAW_BAR_CELL = "rand-write-4k-d32"

HOW = """Interleaved: each round runs a cell on every backend, one after the other, before the next
cell; the order rotates. Before each run the disk is waited for until it is quiet, and the kernel's
caches are dropped (caches inside a daemon are not). Writes end with an fsync, and create, rename
and unlink with one of the directory; it counts into the time. Rates are medians over the rounds;
`*`: some rounds failed."""


def runs(results, cell, backend):
    return [r for r in results if r["cell"] == cell and r["backend"] == backend and "rate" in r]


def mid(values):
    values = [v for v in values if v is not None]
    return median(values) if values else None


def number(v, digits=3):
    if v is None:
        return "-"
    if v >= 1000:
        return f"{v:,.0f}".replace(",", " ")
    return f"{v:.{digits}g}" if v < 100 else f"{v:.0f}"


def ratio(results, cell, ours, other):
    """Median over the rounds of ours/other, each from the same round."""
    a = {r["round"]: r["rate"] for r in runs(results, cell, ours)}
    b = {r["round"]: r["rate"] for r in runs(results, cell, other)}
    return mid([a[n] / b[n] for n in a if b.get(n)])


def cost_ratio(results, cell, ours, other):
    """The same for CPU seconds per operation."""
    def cost(backend):
        return {r["round"]: r["cpu_s"] / r["ops"] for r in runs(results, cell, backend)
                if r.get("cpu_s") and r["ops"]}

    a, b = cost(ours), cost(other)
    return mid([a[n] / b[n] for n in a if b.get(n)])


def bars_measured(results):
    return bars.measured(lambda *c: ratio(results, *c), lambda *c: cost_ratio(results, *c))


def picture(results):
    return bars.svg(bars_measured(results))


def table(head, rows):
    rule = ["---"] + ["--:"] * (len(head) - 1)
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(rule) + "|"]
    return lines + ["| " + " | ".join(r) + " |" for r in rows] + [""]


def rates(results, cells, names):
    rows = []
    for c in cells:
        row = [c.name, c.unit]
        for n in names:
            failed = [r for r in results if r["cell"] == c.name and r["backend"] == n
                      and "error" in r]
            value = number(mid([r["rate"] for r in runs(results, c.name, n)]))
            row.append("failed" if failed and value == "-" else value + ("*" if failed else ""))
        rows.append(row)
    return table(["cell", "unit"] + list(names), rows)


def ratios(results, cells, names):
    ours = [n for n in names if n.startswith("tarn")]
    others = [n for n in names if not n.startswith("tarn")]
    pairs = [(a, b) for a in ours for b in others]
    rows = []
    for c in cells:
        values = [ratio(results, c.name, a, b) for a, b in pairs]
        if any(v is not None for v in values):
            rows.append([c.name] + ["-" if v is None else f"{v:.2f}" for v in values])
    return table(["cell"] + [f"{a} / {b}" for a, b in pairs], rows) if rows else []


def cost_row(rs):
    cpu_gib = mid([r["cpu_s"] / r["bytes"] * 2**30 for r in rs if r["bytes"]])
    cpu_ops = mid([r["cpu_s"] / r["ops"] * 1e5 for r in rs if r["ops"]])
    amp = mid([r["device_bytes"] / r["written"] for r in rs if r["written"]])
    return [number(cpu_gib), number(cpu_ops), "-" if amp is None else f"{amp:.2f}",
            number(max(r["rss_bytes"] for r in rs) / 2**20)]


def costs(results, cells, backends):
    rows = []
    for c in cells:
        for b in backends:
            rs = [r for r in runs(results, c.name, b) if r.get("cpu_s") is not None]
            if rs and b != "raw":
                rows.append([c.name, b] + cost_row(rs))
    head = ["cell", "backend", "CPU s/GiB", "CPU s/100k ops", "device B/user B", "RSS MiB"]
    return table(head, rows)


def behind(results, cells, names):
    """(cell, ours, other, ratio) for every cell that misses the bar."""
    found = []
    for c in cells:
        for a in (n for n in names if n.startswith("tarn")):
            for b in names:
                if b in NEIGHBOURS or (b == "raw" and c.name == RAW_BAR_CELL):
                    v = ratio(results, c.name, a, b)
                    if v is not None and v < 1.0:
                        found.append((c.name, a, b, v))
    return found


def markdown(data, cells, backends):
    results, o, m = data["results"], data["options"], data["machine"]
    names = [b.name for b in backends]
    lines = ["# Tarn bench", ""]
    lines += [f"{m['cpu']}, {m['cpus']} CPUs, {m['memory_mib']} MiB; {m['system']}, kernel "
              f"{m['kernel']}; disk: {m['disk']}; FUSE over io_uring: {m['fuse_over_io_uring']}; "
              f"Tarn {data['tarn']}.", ""]
    lines += ["Packages: " + ", ".join(f"{k} {v}" for k, v in m["packages"].items()) + ".", ""]
    lines += [f"{o['rounds']} rounds, {o['runtime']} s per timed cell, test file "
              f"{o['size'] >> 20} MiB, {o['files']} small files, fio engine {o['engine']}, depth 4 "
              "for 1 MiB.", HOW, ""]
    lines += [f"- {b.name}: {b.about}" + (f"; {b.note}" if b.note else "") for b in backends] + [""]
    lines += ["## Rates", ""] + rates(results, cells, names)
    r = ratios(results, cells, names)
    if r:
        lines += ["## Ratios", "", "Median over the rounds of the ratio within a round; above 1 "
                  "Tarn is faster.", ""] + r
        misses = behind(results, cells, names)
        lines += ["## Behind the bar", ""]
        lines += [f"- {c}: {a} is {v:.2f} of {b}" for c, a, b, v in misses] or ["None."]
        lines += [""]
    found = bars_measured(results)
    if found:
        lines += ["## Bars", ""]
        lines += table(["cell", "ours", "other", "bar", "ratio", "reached"], bars.rows(found))
    lines += ["## Costs of the serving daemons", "",
              "CPU and bytes are read after the disk is quiet again, so deferred work counts.", ""]
    lines += costs(results, cells, names)
    errors = sorted({f"- {r['cell']} on {r['backend']}: {r['error']}"
                     for r in results if "error" in r})
    if errors or data["absent"]:
        lines += ["## Not measured", ""] + errors
        lines += [f"- {n}: {why}" for n, why in data["absent"].items()] + [""]
    return "\n".join(lines)

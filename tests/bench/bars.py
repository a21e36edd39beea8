"""The bars: what a cell of ours must reach of another, and a picture of how far it is."""
from collections import namedtuple

# cell, what of ours may answer for it, the other, at least this ratio; cost: CPU, at most.
Bar = namedtuple("Bar", "cell ours other least cost", defaults=(False,))

IMAGE = ("tarn-image", "tarn-image-u")
TREE = ("tarn-tree", "tarn-tree-u")

ALL = (
    Bar("cached-read-4k-d1", ("tarn-image",), "memory", 0.85),
    Bar("cached-read-4k-d32", ("tarn-image",), "memory", 0.85),
    Bar("cached-read-4k-d1", ("tarn-image-u",), "memory-u", 0.85),
    Bar("cached-read-4k-d32", ("tarn-image-u",), "memory-u", 0.85),
    Bar("rand-read-4k-d32", IMAGE, "raw", 0.7),
    Bar("rand-read-4k-d32", IMAGE, "qsd-qcow2", 2.0),
    Bar("rand-read-4k-d32-all", IMAGE, "raw", 0.85),
    Bar("rand-read-4k-d32-all", IMAGE, "qsd-qcow2", 2.0),
    Bar("rand-read-4k-d1", IMAGE, "raw", 0.75),
    Bar("long-write-4k-d1", IMAGE, "raw", 1.5),
    Bar("long-write-4k-d32", IMAGE, "raw", 1.5),
    Bar("long-write-4k-d1", IMAGE, "qsd-qcow2", 3.0),
    Bar("long-write-4k-d32", IMAGE, "qsd-qcow2", 3.0),
    Bar("rand-write-4k-fsync", IMAGE, "raw", 0.7),
    Bar("seq-read-1m", IMAGE, "raw", 0.9),
    Bar("seq-write-1m", IMAGE, "raw", 0.45),
    Bar("create-4k", TREE, "zfs-fuse", 10.0),
    Bar("create-4k", TREE, "btrfs", 0.5),
    Bar("unlink", TREE, "zfs-fuse", 10.0),
    Bar("unlink", TREE, "btrfs", 0.5),
    Bar("rename", TREE, "zfs-fuse", 10.0),
    Bar("rename", TREE, "btrfs", 0.5),
    Bar("stat-warm", TREE, "btrfs", 0.8),
    Bar("readdir-warm", TREE, "btrfs", 0.8),
    Bar("open-read-4k-warm", TREE, "btrfs", 0.8),
    Bar("append-4k-fsync", TREE, "ext4", 0.7),
    Bar("append-4k-fsync-t8", TREE, "ext4", 0.7),
    Bar("rand-read-4k-d32", IMAGE, "qsd-qcow2", 0.5, True),
    Bar("rand-write-4k-d32", IMAGE, "qsd-qcow2", 0.5, True),
)


def label(bar):
    return bar.cell + (" (CPU)" if bar.cost else "")


def measured(rate_ratio, cost_ratio):
    """[(bar, ours, ratio, reached)] of the bars that were measured; ours is the better one."""
    found = []
    for bar in ALL:
        of = cost_ratio if bar.cost else rate_ratio
        values = [(of(bar.cell, ours, bar.other), ours) for ours in bar.ours]
        values = [v for v in values if v[0] is not None]
        if values:
            value, ours = min(values) if bar.cost else max(values)
            reached = value <= bar.least if bar.cost else value >= bar.least
            found.append((bar, ours, value, reached))
    return found


def rows(found):
    return [[label(bar), ours, bar.other, ("at most " if bar.cost else "") + f"{bar.least:g}",
             f"{value:.2f}", "yes" if reached else "**no**"]
            for bar, ours, value, reached in found]


ROW, NAME, FULL = 18, 330, 420      # pixels: height of a row, width of names, width of twice a bar


def svg(found):
    """Each bar's ratio over what it must reach; the line is at 1."""
    height = ROW * len(found) + 34
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{NAME + FULL + 60}" height="{height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="#ffffff"/>']
    for i, (bar, ours, value, reached) in enumerate(found):
        share = bar.least / value if bar.cost and value else value / bar.least
        width = min(share, 2.0) * FULL / 2
        y = 8 + i * ROW
        colour = "#3a7d44" if reached else "#c0392b"
        out += [f'<text x="{NAME - 8}" y="{y + 12}" text-anchor="end">{label(bar)}: {ours} / '
                f'{bar.other}</text>',
                f'<rect x="{NAME}" y="{y + 2}" width="{width:.0f}" height="{ROW - 5}" '
                f'fill="{colour}"/>',
                f'<text x="{NAME + width + 5:.0f}" y="{y + 12}">{value:.2f}</text>']
    x = NAME + FULL // 2
    out += [f'<line x1="{x}" y1="4" x2="{x}" y2="{height - 22}" stroke="#222222"/>',
            f'<text x="{x}" y="{height - 8}" text-anchor="middle">bar</text>', "</svg>"]
    return "\n".join(out) + "\n"

#!/usr/bin/env python3
"""Writes what the fuzz targets begin with into fuzz/seeds, and its words into fuzz/dictionaries.

    python3 fuzz/seeds.py          # what the repository holds
    python3 fuzz/seeds.py RUN...   # and what these runs left

Pictures and weights are those of tests/fixtures, configurations those of configs/, and of each kind
some that are made here: small files that ask for much memory or time, and texts with traps.
"""

import json
import re
import shutil
import struct
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests/fixtures"
SEEDS = Path(__file__).parent / "seeds"
DICTIONARIES = Path(__file__).parent / "dictionaries"


def folder(target):
    path = SEEDS / target
    path.mkdir(parents=True, exist_ok=True)
    return path


def copy(target, files):
    for file in files:
        shutil.copy(file, folder(target) / file.name)


def write(target, name, content):
    content = content.encode() if isinstance(content, str) else content
    (folder(target) / name).write_bytes(content)


def png(width, height, depth, colour, row):
    """A PNG of equal rows, as small as the format allows."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" + row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def pictures():
    kinds = (".png", ".jpg", ".gif", ".bmp", ".webp")
    copy("picture", [file for file in (FIXTURES / "pictures").iterdir() if file.suffix in kinds])
    # 72 and 268 megapixels in a few hundred kilobytes, and a size that nothing stands behind.
    write("picture", "wide.png", png(9000, 8000, 1, 0, b"\0" * 1125))
    write("picture", "bomb.png", png(16384, 16384, 1, 0, b"\0" * 2048))
    write("picture", "deep.png", png(4000, 1200, 16, 6, b"\0" * 32000))
    write("picture", "hollow.png", png(16384, 6000, 16, 6, b"")[:60])


def safetensors(tensors):
    header, data = {}, b""
    for name, shape in tensors:
        count = 1
        for side in shape:
            count *= side
        values = struct.pack(f"<{count}f", *range(count))
        offsets = [len(data), len(data) + len(values)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        data += values
    header = json.dumps({"__metadata__": {"xp.flavour": "tf"}, **header}).encode()
    return struct.pack("<Q", len(header)) + header + data


def weights():
    copy("weights", FIXTURES.glob("*.h5"))
    copy("weights", FIXTURES.glob("*.pth"))
    torch = [
        ("conv.weight", [4, 2, 3, 3]),
        ("bn.weight", [4]),
        ("bn.bias", [4]),
        ("bn.running_mean", [4]),
        ("bn.running_var", [4]),
        ("fc.weight", [2, 4]),
        ("fc.bias", [2]),
    ]
    write("weights", "plain.safetensors", safetensors(torch))


def manifests():
    write("picture_manifest", "plain.csv", "path,label\na.png,x\nb/c.jpg,y\nb/d.gif,y\n")
    write(
        "picture_manifest",
        "split.csv",
        'path,label,split\na.png,x,train\nb/c.jpg,y,train\n"e, f\n.png",x,val\nb/d.gif,y,test\n',
    )
    write("picture_manifest", "bare.csv", "a.png,x\nb/c.jpg,y\n")
    write("picture_manifest", "traps.csv", "file,class\n../outside.png,x\n/dev/zero,y\na.png,A\na.png,a\n")


def runs(paths):
    header = "phase,phase_epoch,epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy"
    header += ",images_per_second,seconds\n"
    rows = "extract,0,0,0,0.1,,,1.6,0.2,0,1.5\nextract,1,1,25,0.1,1.4,0.3,1.3,0.5,250,1.5\n"
    tune = "tune,1,2,50,1e-5,NaN,0.3,inf,0.5,250,1e300\n"
    write("metrics", "rows.csv", header + rows + tune)
    write("metrics", "torn.csv", header + rows + "tune,1,2,50,1e")
    for number, path in enumerate(map(Path, paths)):
        shutil.copy(path / "metrics.csv", folder("metrics") / f"run_{number}.csv")
        shutil.copy(path / "manifest.json", folder("run_manifest") / f"run_{number}.json")
        shutil.copy(path / "resolved.toml", folder("config") / f"run_{number}.toml")
    write("run_manifest", "empty.json", "{}")


def words(target):
    """What the seeds of a target say, for the fuzzer to say elsewhere."""
    text = b" ".join(file.read_bytes() for file in folder(target).iterdir()).decode()
    found = sorted(set(re.findall(r"[A-Za-z_][A-Za-z0-9_]{2,}", text)))
    DICTIONARIES.mkdir(exist_ok=True)
    (DICTIONARIES / target).write_text("".join(f'"{word}"\n' for word in found))


def main():
    copy("config", (ROOT / "configs").glob("*.toml"))
    pictures()
    weights()
    manifests()
    runs(sys.argv[1:])
    for target in ("config", "metrics", "run_manifest", "picture_manifest"):
        words(target)
    for target in sorted(SEEDS.iterdir()):
        print(f"{target.name}: {len(list(target.iterdir()))} files")


main()

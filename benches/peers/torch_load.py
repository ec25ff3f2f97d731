"""Worker: from JPEG files to normalised batches, `torch_load.py READER WORKERS FOLDER SIDE`.

Readers: pillow (PIL and its resize), decode_jpeg (torchvision's decoder, antialiased resize of
bytes). A round is one pass over the folder.
"""
import sys
from pathlib import Path

import torch
import torchvision
from PIL import Image, __version__ as pillow_version
from protocol import BATCH, THREADS, serve
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Pictures(torch.utils.data.Dataset):
    def __init__(self, reader, folder, side):
        self.files = sorted(str(file) for file in Path(folder).rglob("*.jpg"))
        self.reader = reader
        resize = v2.Resize((side, side), antialias=True)
        scale = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        first = [resize, v2.ToImage()] if reader == "pillow" else [resize]
        self.transform = v2.Compose(first + scale)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index]
        if self.reader == "pillow":
            return self.transform(Image.open(file).convert("RGB"))
        return self.transform(decode_jpeg(read_file(file), mode=ImageReadMode.RGB))


def main(reader, workers, folder, side):
    torch.set_num_threads(THREADS)
    pictures = Pictures(reader, folder, int(side))
    loader = torch.utils.data.DataLoader(
        pictures, BATCH, num_workers=int(workers), persistent_workers=int(workers) > 0
    )

    def batches(enough):
        return sum(len(batch) for batch in loader)

    # One pass, so that workers run and files are in the page cache.
    batches(None)
    versions = f"torchvision {torchvision.__version__}, Pillow {pillow_version}"
    shape = next(iter(loader)).permute(0, 2, 3, 1).shape
    serve(versions, shape, 0, batches)


main(*sys.argv[1:])

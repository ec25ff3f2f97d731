"""The whole run that xp races: two phases, as a careful PyTorch user writes them.

Phase 1 trains one dense layer on the frozen backbone, phase 2 also the upper layers: of MobileNetV2
everything from block_11_expand_BN on with batch norm in eval mode, of SqueezeNet from fire8 on; the checkpoint of the best validation accuracy
is tested. Adam, batches of 32, f32, channels_last. Prints one line of JSON.
"""
import argparse
import copy
import csv
import json
import resource
import time
from pathlib import Path

STARTED = time.time()

import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.models import mobilenet_v2, squeezenet1_1

BATCH = 32
NORMALISE = [
    transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--weights", required=True, help="torchvision's, as safetensors")
    networks = ["mobilenet_v2", "squeezenet1_1"]
    parser.add_argument("--network", choices=networks, default=networks[0])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, nargs=2, default=[10, 10])
    parser.add_argument("--lr", type=float, nargs=2, default=[1e-3, 1e-4])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--augment", action="store_true", help="random crops and flips")
    parser.add_argument("--cache-phase1", action="store_true", help="compute its features once")
    return parser.parse_args()


class Pictures(torch.utils.data.Dataset):
    """One split of a manifest with the columns path, label and split."""

    def __init__(self, folder, rows, classes, transform):
        self.folder, self.rows = folder, rows
        self.classes, self.transform = classes, transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        picture = Image.open(self.folder / row["path"]).convert("RGB")
        return self.transform(picture), self.classes.index(row["label"])


def loaders(args):
    with open(args.data / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    plain = transforms.Compose([transforms.Resize((args.size, args.size)), *NORMALISE])
    large = int(1.15 * args.size)
    changes = [transforms.RandomCrop(args.size), transforms.RandomHorizontalFlip()]
    random = transforms.Compose([transforms.Resize((large, large)), *changes, *NORMALISE])

    def loader(split):
        training = split == "train"
        chosen = [row for row in rows if row["split"] == split]
        transform = random if training and args.augment else plain
        return DataLoader(
            Pictures(args.data, chosen, classes, transform),
            BATCH,
            shuffle=training,
            num_workers=args.workers,
            persistent_workers=args.workers > 0,
        )

    return classes, {split: loader(split) for split in ("train", "val", "test")}


class Run:
    """Network, head, and the best of both so far."""

    def __init__(self, args, classes):
        self.mobile = args.network == "mobilenet_v2"
        network = mobilenet_v2() if self.mobile else squeezenet1_1()
        state = load_file(args.weights)
        missing = network.load_state_dict(state, strict=False).missing_keys
        lost = [k for k in missing if "classifier" not in k and "num_batches" not in k]
        if lost:
            raise SystemExit(f"{args.weights} lacks {', '.join(lost)}")
        self.base = network.features.to(memory_format=torch.channels_last).eval()
        self.base.requires_grad_(False)
        width = network.last_channel if self.mobile else 512
        self.head = torch.nn.Linear(width, len(classes))
        self.best_accuracy, self.best_state = -1.0, None
        self.history = []

    def features(self, x):
        return self.base(x.to(memory_format=torch.channels_last)).mean((2, 3))

    @torch.no_grad()
    def accuracy(self, batches, features):
        correct = seen = 0
        for x, labels in batches:
            answers = self.head(features(x)).argmax(1)
            correct += (answers == labels).sum().item()
            seen += len(labels)
        return correct / seen

    def fit(self, epochs, lr, parameters, train, val, features, frozen):
        """`train` and `val` give the batches of an epoch."""
        optimizer = torch.optim.Adam(parameters, lr)
        for _ in range(epochs):
            for x, labels in train():
                with torch.set_grad_enabled(not frozen):
                    inputs = features(x)
                loss = cross_entropy(self.head(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            accuracy = self.accuracy(val(), features)
            self.history.append(round(accuracy, 4))
            if accuracy > self.best_accuracy:
                self.best_accuracy = accuracy
                state = self.base.state_dict(), self.head.state_dict()
                self.best_state = copy.deepcopy(state)

    def restore_best(self):
        base, head = self.best_state
        self.base.load_state_dict(base)
        self.head.load_state_dict(head)

    @torch.no_grad()
    def bank(self, loader):
        """Features and labels of a whole split."""
        features, labels = zip(*((self.features(x), labels) for x, labels in loader))
        return torch.cat(features), torch.cat(labels)

    def unfreeze(self):
        """The upper layers; of block_11_expand the convolution stays frozen."""
        if self.mobile:
            block = self.base[12].conv
            parts = [block[0][1], *block[1:], *self.base[13:]]
        else:
            parts = self.base[11:]
        parameters = [p for part in parts for p in part.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        return parameters


def first_phase(run, args, data):
    train, val, features = (lambda: data["train"]), (lambda: data["val"]), run.features
    if args.cache_phase1:
        x, labels = run.bank(data["train"])
        held_out = run.bank(data["val"])
        train = lambda: ((x[i], labels[i]) for i in torch.randperm(len(labels)).split(BATCH))
        val, features = (lambda: [held_out]), (lambda inputs: inputs)
    head = run.head.parameters()
    run.fit(args.epochs[0], args.lr[0], head, train, val, features, frozen=True)


def second_phase(run, args, data):
    parameters = run.unfreeze() + list(run.head.parameters())
    train, val = (lambda: data["train"]), (lambda: data["val"])
    run.fit(args.epochs[1], args.lr[1], parameters, train, val, run.features, frozen=False)


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    classes, data = loaders(args)
    run = Run(args, classes)
    marks = [time.time()]
    for phase in (first_phase, second_phase):
        phase(run, args, data)
        marks.append(time.time())
    last = run.accuracy(data["test"], run.features)
    run.restore_best()
    result = {
        "test": round(run.accuracy(data["test"], run.features), 4),
        "test_last": round(last, 4),
        "best_val": round(run.best_accuracy, 4),
        "val": run.history,
        "phase1_s": round(marks[1] - marks[0], 1),
        "phase2_s": round(marks[2] - marks[1], 1),
        "total_s": round(time.time() - STARTED, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "torch": torch.__version__,
    }
    print(json.dumps(result))


main()

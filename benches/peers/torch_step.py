"""Worker: a training step of MobileNetV2, `torch_step.py ENGINE SIDE WHAT`.

Engines: eager, compile. WHAT trains: `finetune` (from block_11_expand_BN on), `all` with batch
norm in eval mode, `all-bn-train`. Pictures lie decoded in memory, 1.15 times as large as the
network's input; a batch of random crops and flips of them is part of the step.
"""
import sys

import torch
from protocol import BATCH, THREADS, serve
from torch_models import Pooled, parameters, prepared
from torchvision.models import MobileNetV2

CLASSES = 5
PICTURES = 640


def split(layers):
    """What lies below block_11_expand_BN, and the rest."""
    block = layers[12].conv
    below = [*layers[:12], block[0][0]]
    above = [block[0][1], block[0][2], *block[1:], *layers[13:]]
    return torch.nn.Sequential(*below), Pooled(*above)


class Augmented:
    """Batches of random crops and flips, normalised, epoch after epoch."""

    def __init__(self, side):
        self.side = side
        self.room = int(side * 1.15) - side
        shape = (PICTURES, side + self.room, side + self.room, 3)
        self.pictures = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.labels = torch.arange(PICTURES) % CLASSES
        mean = torch.tensor([0.485, 0.456, 0.406])
        std = torch.tensor([0.229, 0.224, 0.225])
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def batches(self):
        while True:
            for chosen in torch.randperm(PICTURES).split(BATCH):
                draws = torch.randint(0, self.room + 1, (BATCH, 2)).tolist()
                views = [
                    self.pictures[i, top : top + self.side, left : left + self.side]
                    for i, (top, left) in zip(chosen.tolist(), draws)
                ]
                flipped = torch.rand(BATCH).lt(0.5).tolist()
                views = [view.flip(1) if flip else view for view, flip in zip(views, flipped)]
                x = torch.stack(views).float().mul_(self.scale).add_(self.shift)
                # The bytes lie channels last already; this only says so.
                yield x.permute(0, 3, 1, 2), self.labels[chosen]


def main(engine, side, what):
    torch.set_num_threads(THREADS)
    side = int(side)
    model = prepared("mobilenet_v2", side)
    count = parameters(model)
    frozen, trained = None, model
    if what == "finetune":
        frozen, trained = split(model.layers[0])
        frozen.requires_grad_(False)
    trained.train(what == "all-bn-train")
    head = torch.nn.Linear(MobileNetV2().last_channel, CLASSES)
    network = torch.nn.Sequential(trained, head).to(memory_format=torch.channels_last)
    if engine == "compile":
        frozen, network = frozen and torch.compile(frozen), torch.compile(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    cross_entropy = torch.nn.CrossEntropyLoss()
    data = Augmented(side).batches()

    def step():
        x, labels = next(data)
        if frozen is not None:
            with torch.no_grad():
                x = frozen(x)
        logits = network(x)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return logits

    def batches(enough):
        done = 0
        while done == 0 or not enough():
            step()
            done += BATCH
        return done

    for _ in range(3):
        logits = step()
    serve(f"torch {torch.__version__}", logits.shape, count, batches)


main(*sys.argv[1:])

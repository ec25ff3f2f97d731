"""What `gpu race` of benches/gpu.rs times, in PyTorch: channels_last, bf16 autocast, torch.compile.

Usage: torch_gpu.py [NAME...]; a line of JSON each. Inputs lie on the device.
"""
import json
import sys
import time

import torch
import torchvision

ROUNDS, TIMES = 5, 20


def backbone(name):
    if name == "xception":
        import timm

        return timm.create_model("legacy_xception", num_classes=5)
    if name == "vit_small_16":
        import timm

        return timm.create_model("vit_small_patch16_224", num_classes=5)
    return getattr(torchvision.models, name)(num_classes=5)


def keras_split(model, first):
    """MobileNetV2 below and from layer `first` of Keras on: 100 is block_11_expand's norm."""
    assert first == 100
    layers = model.features
    block = layers[12].conv
    below = torch.nn.Sequential(*layers[:12], block[0][0])
    above = torch.nn.Sequential(
        block[0][1], block[0][2], *block[1:], *layers[13:],
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), model.classifier,
    )
    return below, above


def fastest(run):
    least = float("inf")
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(TIMES):
            run()
        torch.cuda.synchronize()
        least = min(least, (time.perf_counter() - begun) / TIMES)
    return least


def forward(name, side, batch):
    model = backbone(name).cuda().eval().to(memory_format=torch.channels_last)
    x = torch.rand(batch, 3, side, side, device="cuda").to(memory_format=torch.channels_last)
    model = torch.compile(model)

    def run():
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            model(x)

    for _ in range(5):
        run()
    return fastest(run)


def step(name, first, mode, batch):
    model = backbone(name).cuda().to(memory_format=torch.channels_last)
    x = torch.rand(batch, 3, 224, 224, device="cuda").to(memory_format=torch.channels_last)
    if first != "all":
        below, model = keras_split(model, int(first))
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            x = below.eval()(x)
    model.train(mode == "train")
    labels = torch.arange(batch, device="cuda") % 5
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    compiled = torch.compile(model)

    def run():
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(compiled(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    for _ in range(5):
        run()
    return fastest(run)


RACES = [
    (f"forward {name}", forward, (name, side, 256), 256)
    for name, side in [("mobilenet_v2", 224), ("resnet50", 224), ("xception", 299), ("vit_small_16", 224)]
] + [
    (f"step {name} {part} {mode}", step, (name, part, mode, batch), batch)
    for name, part, batch in [
        ("mobilenet_v2", "100", 256), ("mobilenet_v2", "all", 256), ("resnet50", "all", 128), ("vit_small_16", "all", 128),
    ]
    for mode in ["eval", "train"]
]


def main():
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    for name, race, arguments, batch in RACES:
        if len(sys.argv) > 1 and not any(it in name for it in sys.argv[1:]):
            continue
        torch.manual_seed(0)
        torch._dynamo.reset()
        try:
            seconds = race(*arguments)
            line = {"name": name, "milliseconds": seconds * 1e3, "images_per_second": batch / seconds}
        except Exception as error:  # One that fails must not take the others along.
            line = {"name": name, "error": str(error).splitlines()[0][:200]}
        print(json.dumps(line), flush=True)
        torch.cuda.empty_cache()


main()

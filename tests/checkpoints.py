"""Loads every checkpoint of a folder into the network that it names, strictly, and compares what that
says of pictures with what is expected.

`src/export/checkpoint/tests.rs` writes the folder: NAME.PACKAGE.safetensors beside NAME.expected, a
safetensors file with `pictures` and `logits`.
"""

import json
import sys
from pathlib import Path

import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file

TOLERANCE = 1e-4

torch.set_num_threads(2)
failed = False
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    name, package, _ = path.name.rsplit(".", 2)
    with safe_open(path, "pt") as file:
        about = file.metadata()
    arguments = json.loads(about["arguments"])
    assert about["library"] == package
    if package == "timm":
        model = timm.create_model(about["architecture"], **arguments)
    else:
        model = getattr(torchvision.models, about["architecture"])(**arguments)
    model.load_state_dict(load_file(path), strict=True)
    expected = load_file(path.with_name(f"{name}.expected"))
    with torch.inference_mode():
        logits = model.eval()(expected["pictures"])
    largest = expected["logits"].abs().max()
    difference = ((logits - expected["logits"]).abs().max() / largest).item()
    good = logits.shape == expected["logits"].shape and difference <= TOLERANCE
    failed |= not good
    print(f"{name}: {package}'s {about['architecture']} {difference:.1e}{'' if good else ' WRONG'}", flush=True)
    timm.data.create_transform(**json.loads(about["preprocessing"]))
sys.exit(failed)

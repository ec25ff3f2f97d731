"""Runs every network of a folder in ONNX Runtime and compares with what is expected of it.

`src/export/onnx/tests.rs` writes the folder: NAME.onnx beside NAME.safetensors, which holds the input
under its name, `logits`, `probabilities` and the `tolerance` of the logits, as a share of the largest.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

failed = False
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    onnx.checker.check_model(str(path), full_check=True)
    expected = load_file(path.with_suffix(".safetensors"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    assert session.get_modelmeta().custom_metadata_map["classes"] == '["a"]'
    lines = []
    for batch in sorted({1, len(expected[name])}):
        logits, probabilities = session.run(None, {name: expected[name][:batch]})
        largest = np.abs(expected["logits"]).max()
        difference = np.abs(logits - expected["logits"][:batch]).max() / largest
        probable = np.abs(probabilities - expected["probabilities"][:batch]).max()
        good = max(difference, probable) <= expected["tolerance"][0]
        failed |= not good
        lines.append(f"batch {batch} {difference:.1e}, probabilities {probable:.1e}{'' if good else ' WRONG'}")
    print(f"{path.stem}: {'; '.join(lines)}", flush=True)
sys.exit(failed)

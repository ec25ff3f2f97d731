"""Worker: frozen forward pass, `torch_forward.py ENGINE BACKBONE SIDE`.

Engines: eager, jit (optimize_for_inference), compile (with freezing), onnxruntime, openvino.
"""
import os
import sys
import tempfile
import warnings

import torch
import torchvision
from protocol import BATCH, THREADS, repeated, serve
from torch_models import parameters, pictures, prepared


def exported(model, x, folder):
    path = os.path.join(folder, "model.onnx")
    torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17)
    return path


def eager(model, x, folder):
    return f"torch {torch.__version__}, torchvision {torchvision.__version__}", lambda: model(x)


def jit(model, x, folder):
    traced = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, x)))
    return f"torch {torch.__version__}", lambda: traced(x)


def compile(model, x, folder):
    import torch._inductor.config

    torch._inductor.config.freezing = True
    compiled = torch.compile(model)
    return f"torch {torch.__version__}", lambda: compiled(x)


def onnxruntime(model, x, folder):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads may spin within a round, where it helps, but not between two.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    path = exported(model, x, folder)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.contiguous().numpy()}
    return f"onnxruntime {ort.__version__}", lambda: session.run(None, feed)[0]


def openvino(model, x, folder):
    import openvino as ov

    # On processors with bf16 the default would be that, not f32.
    options = {
        "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = ov.Core()
    request = core.compile_model(exported(model, x, folder), "CPU", options).create_infer_request()
    batch = x.contiguous().numpy()
    version = ov.__version__.split("-")[0]
    return f"openvino {version}", lambda: request.infer([batch], share_inputs=True)[0]


def main(engine, name, side):
    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    model = prepared(name, int(side))
    count = parameters(model)
    x = pictures(BATCH, int(side))
    with torch.inference_mode(engine == "eager"), torch.no_grad():
        expected = model(x)
        with tempfile.TemporaryDirectory() as folder:
            versions, forward = globals()[engine](model, x, folder)
            for _ in range(3):
                output = torch.as_tensor(forward())
        error = (output - expected).abs().max() / expected.abs().max()
        assert error < 1e-3, f"{engine} differs from PyTorch by {error}"
        if engine != "eager":
            del model, expected
        serve(versions, output.shape, count, repeated(forward))


main(*sys.argv[1:])

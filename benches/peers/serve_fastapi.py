"""What xp serve is raced against: the same model, exported to ONNX, behind FastAPI.

    python serve_fastapi.py MODEL.onnx PORT    # wants fastapi, uvicorn, onnxruntime, pillow

As its users write it: Pillow decodes and resizes, ONNX Runtime computes on all cores, FastAPI runs the
handler in its thread pool.
"""

import io
import json
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
_, _, height, width = given.shape
metadata = session.get_modelmeta().custom_metadata_map
classes = json.loads(metadata["classes"])
preprocess = json.loads(metadata["xp.preprocess"])
mean = np.array(preprocess["mean"], np.float32)
std = np.array(preprocess["std"], np.float32)
app = FastAPI()


def classify(body):
    picture = Image.open(io.BytesIO(body)).convert("RGB").resize((width, height), Image.BILINEAR)
    pixels = (np.asarray(picture, np.float32) / 255 - mean) / std
    (probabilities,) = session.run(["probabilities"], {given.name: pixels.transpose(2, 0, 1)[None]})
    order = np.argsort(-probabilities[0])[:5]
    return {"classes": [{"class": classes[i], "probability": float(probabilities[0, i])} for i in order]}


@app.post("/predict")
async def predict(request: Request):
    return await run_in_threadpool(classify, await request.body())


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")

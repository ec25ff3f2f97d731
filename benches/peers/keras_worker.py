"""Worker: Keras on TensorFlow. `keras_worker.py forward BACKBONE SIDE`,
`keras_worker.py step SIDE WHAT` (WHAT as in torch_step.py), `keras_worker.py load FOLDER SIDE`.
"""
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf
from protocol import BATCH, THREADS, repeated, serve

VERSIONS = f"Keras {keras.__version__}, TensorFlow {tf.__version__}"
MODELS = {
    "mobilenet_v2": keras.applications.MobileNetV2,
    "resnet50": keras.applications.ResNet50,
    "vgg19": keras.applications.VGG19,
    "inception_v3": keras.applications.InceptionV3,
    "xception": keras.applications.Xception,
}
CLASSES = 5
PICTURES = 640
MEAN = np.float32([0.485, 0.456, 0.406])
STD = np.float32([0.229, 0.224, 0.225])


def backbone(name, side, **options):
    keras.utils.set_random_seed(0)
    shape = (side, side, 3)
    return MODELS[name](
        include_top=False, weights=None, input_shape=shape, pooling="avg", **options
    )


def trained_values(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def forward(name, side):
    model = backbone(name, int(side))
    run = tf.function(lambda x: model(x, training=False))
    x = tf.random.uniform((BATCH, int(side), int(side), 3), -1, 1)
    for _ in range(3):
        output = run(x)
    serve(VERSIONS, output.shape, trained_values(model), repeated(lambda: run(x).numpy()))


def augmented(side):
    """Crops and flips of pictures in memory, normalised, batch after batch."""
    large = int(side * 1.15)
    pictures = np.random.default_rng(0).integers(0, 256, (PICTURES, large, large, 3), np.uint8)
    labels = np.arange(PICTURES, dtype=np.int32) % CLASSES

    def view(picture, label):
        picture = tf.image.random_crop(picture, (side, side, 3))
        picture = tf.image.random_flip_left_right(picture)
        return (tf.cast(picture, tf.float32) / 255 - MEAN) / STD, label

    data = tf.data.Dataset.from_tensor_slices((pictures, labels))
    data = data.shuffle(PICTURES).repeat().map(view, num_parallel_calls=THREADS)
    return data.batch(BATCH, drop_remainder=True).prefetch(1)


def step(side, what):
    side = int(side)
    base = backbone("mobilenet_v2", side)
    count = trained_values(base)
    names = [layer.name for layer in base.layers]
    cutoff = names.index("block_11_expand_BN") if what == "finetune" else 0
    for layer in base.layers[:cutoff]:
        layer.trainable = False
    inputs = keras.Input((side, side, 3))
    # Keras' own switch for batch norm that trains but keeps its statistics.
    features = base(inputs, training=what == "all-bn-train")
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(features))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss)
    data = iter(augmented(side))

    def train():
        x, labels = next(data)
        model.train_on_batch(x, labels)

    for _ in range(3):
        train()
    serve(VERSIONS, (BATCH, CLASSES), count, repeated(train))


def load(folder, side):
    side = int(side)
    files = sorted(str(file) for file in Path(folder).rglob("*.jpg"))

    def read(file):
        picture = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
        picture = tf.image.resize(picture, (side, side), antialias=True)
        return (picture / 255 - MEAN) / STD

    data = tf.data.Dataset.from_tensor_slices(files).map(read, num_parallel_calls=THREADS)
    data = data.batch(BATCH).prefetch(2)

    def batches(enough):
        return sum(len(batch) for batch in data)

    batches(None)
    serve(VERSIONS, next(iter(data)).shape, 0, batches)


tf.config.threading.set_intra_op_parallelism_threads(THREADS)
tf.config.threading.set_inter_op_parallelism_threads(THREADS)
globals()[sys.argv[1]](*sys.argv[2:])

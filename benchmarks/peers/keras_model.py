"""Keras 3 over TensorFlow: the base frozen and called with training=False, its tutorial's way."""

import argparse
import json
import time

started = time.perf_counter()
parser = argparse.ArgumentParser()
parser.add_argument("--architecture", default="resnet50")
parser.add_argument("--data", required=True)
parser.add_argument("--weights", help="not read: Keras names its tensors otherwise; random values cost the same")
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--images", type=int)
options = parser.parse_args()

import keras  # noqa: E402

assert options.architecture == "resnet50", "Keras has no other network of the comparison"
data = keras.utils.image_dataset_from_directory(options.data, image_size=(224, 224), batch_size=32, seed=0)
classes = len(data.class_names)
count = options.images or len(data.file_paths)
data = data.take(-(-count // 32))
base = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
base.trainable = False
inputs = keras.Input((224, 224, 3))
x = base(keras.applications.resnet.preprocess_input(inputs), training=False)
model = keras.Model(inputs, keras.layers.Dense(classes)(x))
model.compile(
    optimizer=keras.optimizers.SGD(1e-3, momentum=0.9),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
setup_s = time.perf_counter() - started
epochs = []
for _ in range(options.epochs):
    began = time.perf_counter()
    history = model.fit(data, epochs=1, verbose=0)
    epochs.append(time.perf_counter() - began)
print(json.dumps({"setup_s": setup_s, "epochs_s": epochs, "images": count, "loss": history.history["loss"][-1]}))

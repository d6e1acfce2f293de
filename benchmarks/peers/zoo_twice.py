"""zoo within one process: the time of the second of two runs on the same images."""

import json
import sys
import time
from pathlib import Path

import zoo

architecture, data, weights, epochs, views, folder = sys.argv[1:]
seconds = []
for number, lr in enumerate((1e-3, 2e-3)):
    started = time.perf_counter()
    zoo.finetune(
        data,
        model=architecture,
        weights=weights,
        recipe="frozen",
        epochs=int(epochs),
        lr=lr,
        **({"augment": "standard", "views": int(views)} if int(views) else {}),
        output=Path(folder) / str(number),
    )
    seconds.append(time.perf_counter() - started)
print(json.dumps({"first_s": seconds[0], "second_s": seconds[1]}))

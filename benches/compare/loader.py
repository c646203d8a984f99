"""Measures torchvision's speed, in images per second of CPU time.

The images are those that `quant-benches loader --images <folder>` writes.

    pip install torch torchvision pillow
    python loader.py <folder>
"""

import statistics
import sys
import time

import torch
from torchvision import datasets, transforms

torch.set_num_threads(1)
normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
to_tensor = transforms.Compose([transforms.ToTensor(), normalize])
pipelines = {
    "loader-train": [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        to_tensor,
    ],
    "loader-val": [transforms.Resize(256), transforms.CenterCrop(224), to_tensor],
}
# These pipelines return bytes, as this project's loader does; the device normalises them.
pipelines["loader-train as bytes"] = pipelines["loader-train"][:-1] + [transforms.PILToTensor()]
pipelines["loader-val as bytes"] = pipelines["loader-val"][:-1] + [transforms.PILToTensor()]
pipelines["loader-decode-only"] = [lambda image: image]
for name, steps in pipelines.items():
    images = datasets.ImageFolder(sys.argv[1], transforms.Compose(steps))
    rates = []
    for _ in range(6):
        start = time.process_time()
        for index in range(len(images)):
            images[index]
        rates.append(len(images) / (time.process_time() - start))
    print(f"{name:<28} {statistics.median(rates[1:]):10.1f}  images/CPU-second")

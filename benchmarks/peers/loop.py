"""The training loop of torchvision's transfer-learning tutorial with a frozen backbone, or the same over timm's model.

https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html, "ConvNet as fixed feature extractor":
parameters without gradients, model.train(), SGD with momentum on the new head, two DataLoader workers. With
``--full`` nothing is frozen.
"""

import argparse
import json
import time

started = time.perf_counter()
parser = argparse.ArgumentParser()
parser.add_argument("--library", choices=["torchvision", "timm"], default="torchvision")
parser.add_argument("--architecture", default="resnet50")
parser.add_argument("--data", required=True)
parser.add_argument("--weights", required=True)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--images", type=int, help="use the first so many")
parser.add_argument("--augment", action="store_true")
parser.add_argument("--full", action="store_true")
parser.add_argument("--losses", action="store_true", help="print the loss of every step")
options = parser.parse_args()

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn, optim  # noqa: E402
from torch.utils.data import DataLoader, Subset  # noqa: E402
from torchvision import datasets, models, transforms  # noqa: E402

torch.manual_seed(0)
crop = (
    [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    if options.augment
    else [transforms.Resize(256), transforms.CenterCrop(224)]
)
normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
data = datasets.ImageFolder(options.data, transforms.Compose([*crop, transforms.ToTensor(), normalise]))
chosen = Subset(data, range(options.images)) if options.images else data
loader = DataLoader(chosen, batch_size=32, shuffle=True, num_workers=2)

if options.library == "timm":
    import timm

    model = timm.create_model(options.architecture)
else:
    model = models.get_model(options.architecture)
model.load_state_dict(load_file(options.weights))
for parameter in model.parameters():
    parameter.requires_grad = options.full
model.fc = nn.Linear(model.fc.in_features, len(data.classes))
criterion = nn.CrossEntropyLoss()
trained = model.parameters() if options.full else model.fc.parameters()
optimizer = optim.SGD(trained, lr=0.001, momentum=0.9)
setup_s = time.perf_counter() - started

epochs, losses = [], []
for _ in range(options.epochs):
    began = time.perf_counter()
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    epochs.append(time.perf_counter() - began)
result = {"setup_s": setup_s, "epochs_s": epochs, "images": len(chosen), "loss": losses[-1]}
print(json.dumps({**result, **({"losses": losses} if options.losses else {})}))

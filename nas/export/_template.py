"""What `model.py` looks like around the lines that are generated."""

TEMPLATE = '''"""{architecture}

A network of the search space {space}; weights: {weights}. Needs torch and safetensors, nothing else.

    python model.py image.npy        # one image or a batch: uint8, or float 0 to 1; channels x height x width

    from model import load
    logits = load()(images)          # float32, 0 to 1, batch x {channels} x {height} x {width}
"""

{imports}import sys
from pathlib import Path

import torch
{functional}from safetensors.torch import load_file
from torch import nn

CLASS_NAMES = {class_names}
INPUT_SHAPE = ({channels}, {height}, {width})


class Network(nn.Module):
    """Images, 0 to 1, batch x {channels} x {height} x {width} -> logits, one per class; normalises inside."""

    def __init__(self):
        super().__init__()
{constructors}

    def forward(self, images):
{forward}


def load(weights=Path(__file__).resolve().parent / "weights.safetensors"):
    """The network with its weights, ready to predict."""
    network = Network()
    network.load_state_dict(load_file(weights))
    return network.eval()


def main():
    import numpy

    if len(sys.argv) != 2:
        sys.exit("usage: python model.py image.npy")
    images = torch.from_numpy(numpy.load(sys.argv[1], allow_pickle=False))
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    images = images.reshape(-1, *INPUT_SHAPE)
    with torch.inference_mode():
        probabilities = load()(images).softmax(dim=1)
    for row in probabilities:
        best = int(row.argmax())
        print(f"{{CLASS_NAMES[best]}}  {{float(row[best]):.4f}}")


if __name__ == "__main__":
    main()
'''

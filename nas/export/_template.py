"""What `model.py` looks like around the lines that are generated."""

TEMPLATE = '''"""{architecture}

A network of the search space {space}; weights: {weights}. Needs torch and safetensors; to read files from the
command line, Pillow for images too, or numpy for arrays.

    python model.py image.png        # cut to the shape of the input around its centre, and resized
    python model.py images.npy       # one image or a batch: uint8, or float 0 to 1; channels x height x width

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


def read(path):
    """A file as images, 0 to 1, batch x {channels} x {height} x {width}."""
    if Path(path).suffix.lower() == ".npy":
        import numpy

        images = torch.from_numpy(numpy.load(path, allow_pickle=False))
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        return images.reshape(-1, *INPUT_SHAPE)
    from PIL import Image, ImageOps

    channels, height, width = INPUT_SHAPE
    if channels not in (1, 3):
        raise ValueError(f"an image has no {{channels}} channels; give an array (.npy)")
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (width, height), Image.Resampling.BILINEAR)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(1, height, width, channels).permute(0, 3, 1, 2).float() / 255


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python model.py FILE, an image or an array (.npy)")
    try:
        images = read(sys.argv[1])
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        sys.exit(f"{{sys.argv[1]}} cannot be read as images of {{' x '.join(map(str, INPUT_SHAPE))}}: {{error}}")
    with torch.inference_mode():
        probabilities = load()(images).softmax(dim=1)
    for row in probabilities:
        best = int(row.argmax())
        print(f"{{CLASS_NAMES[best]}}  {{float(row[best]):.4f}}")


if __name__ == "__main__":
    main()
'''

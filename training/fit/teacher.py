"""What a finished run with a classifier says of images: in evaluation mode, the images as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from models.bundle.pixels import normalise_image
from models.image.served import ServedImageEncoder
from training.corpora.image_pack import ImagePack
from training.run_folder import LoadedRun, RunFolder, load_run

__all__ = ["predict_classes"]

_IMAGES_PER_BATCH = 256


def predict_classes(path: Path, pack: ImagePack, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Predicts the classes of a pack's images by a finished run.

    Args:
        path: The run's folder, by a method that keeps its classifier.
        pack: Images of the size and the classes that the run was trained on.
        indices: `[n]`: numbers in the pack.

    Returns:
        `[n, classes]`, chances that sum to 1, at temperature 1.

    Raises:
        ValueError: There is no finished run with a classifier, or it is of other images.
    """
    run = load_run(path)
    if not isinstance(run.served, ServedImageEncoder) or run.preprocessing is None:
        raise ValueError(f"--teacher {path}: it reads texts; images are to be named")
    classify = nn.Sequential(run.served.encoder, _classifier(run, pack)).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(indices), _IMAGES_PER_BATCH):
            images = pack.read(indices[start : start + _IMAGES_PER_BATCH])
            pixels = np.stack([normalise_image(image, run.preprocessing) for image in images])
            found.append(classify(torch.from_numpy(pixels)).softmax(dim=1).numpy())
    return np.concatenate(found)


def _classifier(run: LoadedRun, pack: ImagePack) -> nn.Linear:
    file = RunFolder(run.path).head("classifier")
    if not file.is_file():
        method = run.config["run"]["method"]
        raise ValueError(f"--teacher {run.path}: {method} keeps no classifier; train one with --method supervised")
    classes, size_px = run.config["data"].get("classes"), run.config["encoder"]["image_size_px"]
    if classes != list(pack.label_names):
        raise ValueError(f"--teacher {run.path} tells {classes} apart; {pack.path} has {list(pack.label_names)}")
    if size_px != pack.size_px:
        raise ValueError(f"--teacher {run.path} reads images of {size_px} px; those of {pack.path} have {pack.size_px}")
    weights = load_file(file)
    classifier = nn.Linear(weights["weight"].shape[1], weights["weight"].shape[0])
    classifier.load_state_dict(weights)
    return classifier

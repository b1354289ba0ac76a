"""Trains the demo's four classifiers of handwritten digits and exports them to ONNX.

Each is an ordinary scikit-learn model; two of them are bad in ways that happen in practice:

* v1 is a logistic regression, kept simple: good enough to begin with.
* v2 is a support vector machine: clearly better.
* v3 is v2 trained on a file whose labels were mixed up: fast, healthy, and wrong.
* v4 compares an image with every training image and eighty jittered copies of each, one after
  the other: right, and far too slow for one request. The exam asks many images at a time and
  does not see it, because that shares the walk over the copies between all of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits_demo.artifacts import Index, TrainedModel, describe, read_index, write_index

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

PIXELS = 64
HELD_OUT = 400
EXAM_IMAGES = 200
SEED = 0
OPSET = {"": 18, "ai.onnx.ml": 3}
"""Pinned, so that a newer exporter writes the same operators."""

COPIES = 80
"""Jittered copies of each training image in v4; decides how slow it is."""
JITTER = 0.1

GOLDEN_FILE = "golden.npz"
CLIENTS_FILE = "clients.npz"
_TOOLS = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Images:
    """Images with the digits that they show."""

    image: Floats
    labels: Ints

    def __getitem__(self, part: slice) -> Images:
        """Return some of them."""
        return Images(self.image[part], self.labels[part])


@dataclass(frozen=True)
class Recipe:
    """How one version comes to be: an unfitted model, and what it is trained on."""

    key: str
    version: str
    story: str
    model: Callable[[], Any]
    data: Callable[[Images], Images]


def load_images() -> tuple[Images, Images]:
    """Return the images for training and the held-out ones, pixels from 0 to 1."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes seconds; a cache hit does without
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        (pixels / 16).astype(np.float32),
        labels.astype(np.int64),
        test_size=HELD_OUT,
        random_state=SEED,
        stratify=labels,
    )
    return Images(parts[0], parts[2]), Images(parts[1], parts[3])


def as_they_are(images: Images) -> Images:
    """Train on the right labels."""
    return images


def with_mixed_up_labels(images: Images) -> Images:
    """Give every digit the name of another one."""
    names = np.roll(np.arange(10), 3)
    return Images(images.image, names[images.labels])


def with_jittered_copies(images: Images, copies: int = COPIES) -> Images:
    """Add noisy copies of each image."""
    random = np.random.default_rng(SEED)
    noise = random.normal(0, JITTER, (copies, *images.image.shape)).astype(np.float32)
    noisy = np.clip(images.image[None] + noise, 0, 1).reshape(-1, PIXELS)
    return Images(
        np.concatenate([images.image, noisy]), np.concatenate([images.labels] * (copies + 1))
    )


def _logistic_regression() -> Any:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    return LogisticRegression(C=0.1, max_iter=500)


def _support_vectors() -> Any:
    from sklearn.svm import SVC  # noqa: PLC0415

    return SVC(C=5, gamma="scale")


def _nearest_neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415

    return KNeighborsClassifier(n_neighbors=3, algorithm="brute")


RECIPES: tuple[Recipe, ...] = (
    Recipe("v1", "1.0.0", "logistic regression", _logistic_regression, as_they_are),
    Recipe("v2", "2.0.0", "support vector machine", _support_vectors, as_they_are),
    Recipe("v3", "3.0.0", "trained on mixed-up labels", _support_vectors, with_mixed_up_labels),
    Recipe("v4", "4.0.0", "nearest of 113,000 images", _nearest_neighbours, with_jittered_copies),
)


def export(model: Any) -> bytes:
    """Return the fitted model as ONNX: input `image`, first output `label`."""
    from skl2onnx import to_onnx  # noqa: PLC0415
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the exporter's own reads of old attributes
        proto = to_onnx(
            model,
            initial_types=[("image", FloatTensorType([None, PIXELS]))],
            options={"zipmap": False},
            target_opset=OPSET,
        )
    return bytes(proto.SerializeToString())


def score(model_file: Path, images: Images) -> float:
    """Return the share of images that the exported file names rightly."""
    import onnxruntime as ort  # noqa: PLC0415

    session = ort.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    (labels,) = session.run(["label"], {"image": images.image})
    return round(float((labels == images.labels).mean()), 4)


def train_one(recipe: Recipe, training: Images, held_out: Images, folder: Path) -> TrainedModel:
    """Train, export and measure one version."""
    data = recipe.data(training)
    path = folder / f"digits-{recipe.version}.onnx"
    path.write_bytes(export(recipe.model().fit(data.image, data.labels)))
    return TrainedModel(
        key=recipe.key,
        version=recipe.version,
        story=recipe.story,
        accuracy=score(path, held_out),
        exam_accuracy=score(path, held_out[:EXAM_IMAGES]),
        file=describe(path),
    )


def train(folder: Path, recipes: Sequence[Recipe] = RECIPES) -> Index:
    """Make all files in the folder, the index last."""
    training, held_out = load_images()
    _save(folder / GOLDEN_FILE, held_out[:EXAM_IMAGES])
    _save(folder / CLIENTS_FILE, held_out)
    index = Index(
        golden=describe(folder / GOLDEN_FILE),
        clients=describe(folder / CLIENTS_FILE),
        models=tuple(train_one(recipe, training, held_out, folder) for recipe in recipes),
    )
    write_index(folder, index)
    return index


def _save(path: Path, images: Images) -> None:
    np.savez(path, image=images.image, labels=images.labels)


def load_npz(path: Path) -> Images:
    """Read a file that training wrote."""
    with np.load(path) as arrays:
        return Images(arrays["image"], arrays["labels"])


def cache_key() -> str:
    """Name what decides the files: this code and the versions of what it uses."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in _TOOLS:
        digest.update(f"{name}={version(name)};".encode())
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """Return the folder that keeps artifacts between runs."""
    given = os.environ.get("SKERRY_CACHE_DIR")
    return (Path(given) if given else Path.home() / ".cache/skerry") / "demo"


def ensure(root: Path | None = None) -> tuple[Path, Index]:
    """Return the artifact folder and its index; train only when they are not there yet."""
    folder = (root or cache_root()) / cache_key()
    index = read_index(folder)
    if index is None:
        index = _train_aside(folder)
    return folder, index


def _train_aside(folder: Path) -> Index:
    """Train beside the final folder, so that an interrupted run leaves nothing half done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        index = train(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.chmod(0o755)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return index


def main() -> int:
    """Train if needed and say what is there."""
    folder, index = ensure()
    print(folder)
    for model in index.models:
        print(
            f"{model.key}  {model.version}  held-out {model.accuracy:.1%}  "
            f"exam {model.exam_accuracy:.1%}  {model.file.size / 1e6:.1f} MB  {model.story}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""EdgeModel checks that one look at the schema cannot make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from skerry_operator.api.bounds import PLAIN, is_plain
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelSpec
from skerry_operator.api.v1alpha1.edgemodel_source import ModelSource
from skerry_operator.decide.builds.wanted import optimize_problems
from skerry_runtime.contract import GoldenMetric, clashing_paths


def model_problems(spec: EdgeModelSpec) -> list[str]:
    """Return why the model cannot be used, each with its field and its remedy; empty: it can."""
    return [problem for check in _CHECKS for problem in check(spec)]


def _unique_names(spec: EdgeModelSpec) -> Iterable[str]:
    names = [variant.name for variant in spec.variants]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"spec.variants: the name {name!r} is used twice: rename one"


def _one_digest_per_address(spec: EdgeModelSpec) -> Iterable[str]:
    digests: dict[str, set[str]] = defaultdict(set)
    for variant in spec.variants:
        digests[variant.source.uri].add(variant.source.sha256)
        for file in variant.source.files:
            digests[file.uri].add(file.sha256)
    for uri, found in digests.items():
        # An artefact in a registry holds several files, and the sha256 says which one is meant.
        if len(found) > 1 and not uri.startswith("oci://"):
            yield (
                f"spec.variants: {uri} is named with {len(found)} different sha256, and one "
                "file has only one: correct them with `sha256sum FILE`"
            )


def _places_for_files(spec: EdgeModelSpec) -> Iterable[str]:
    for index, variant in enumerate(spec.variants):
        clash = clashing_paths([variant.path, *(file.path for file in variant.source.files)])
        if clash:
            yield (
                f"spec.variants[{index}].source.files: {' and '.join(clash)} cannot lie in one "
                f"folder, where the model's own file is {variant.path}: give each file the path by "
                "which the model names it"
            )


def _secrets_where_needed(spec: EdgeModelSpec) -> Iterable[str]:
    """The bucket's endpoint stands in the Secret; a rule of the definition cannot see the files."""
    sources = {f"spec.variants[{at}].source": one.source for at, one in enumerate(spec.variants)}
    exam = {"spec.golden.source": spec.golden.source} if spec.golden else {}
    for path, source in {**sources, **exam}.items():
        files = source.files if isinstance(source, ModelSource) else ()
        uris = (source.uri, *(file.uri for file in files))
        if source.secret_ref is None and any(uri.startswith("s3://") for uri in uris):
            yield (
                f"{path}.secretRef: an s3:// address needs one: name the Secret that says which "
                "endpoint and keys to use"
            )


def _threshold_in_range(spec: EdgeModelSpec) -> Iterable[str]:
    if spec.golden is None:
        return
    threshold, metric = float(spec.golden.threshold), spec.golden.metric
    if metric is GoldenMetric.MAX_ABS_ERROR:
        if threshold < 0:
            yield f"spec.golden.threshold: {threshold} is no error: write 0 or more"
    elif not 0 <= threshold <= 1:
        yield f'spec.golden.threshold: {metric} is a share: write 0 to 1, for example "0.95"'


def _plain_texts(spec: EdgeModelSpec) -> Iterable[str]:
    """An older CRD let such texts in; pods refuse a file that holds them."""
    texts = {"spec.version": spec.version}
    for index, one in enumerate(spec.variants):
        texts[f"spec.variants[{index}].source.uri"] = one.source.uri
        texts[f"spec.variants[{index}].inputShapes"] = "".join(one.input_shapes)
    if spec.golden is not None:
        texts["spec.golden.source.uri"] = spec.golden.source.uri
    for path, text in texts.items():
        if not is_plain(text):
            yield f"{path}: {text!a} cannot be printed: {PLAIN.message}"


_CHECKS = (
    _plain_texts,  # what people read must be what is there
    _unique_names,  # a cell names its variant
    _one_digest_per_address,  # a copy and paste that no pod could ever satisfy
    _places_for_files,  # a pod would have no place for one of them
    _secrets_where_needed,  # no pod could fetch it
    _threshold_in_range,  # an exam that everything or nothing passes
    optimize_problems,  # builds that no Job could make
)

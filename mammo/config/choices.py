"""The choices of the keys that have a fixed set of values.

Each set is a `StrEnum`: OmegaConf rejects any other value when the configuration is composed, before any
slow import.
"""

from enum import StrEnum


class Source(StrEnum):
    phantom = "phantom"
    cbis_ddsm = "cbis_ddsm"
    csv = "csv"


class Abnormality(StrEnum):
    mass = "mass"
    calc = "calc"
    all = "all"


class Crop(StrEnum):
    breast = "breast"
    none = "none"


class Aspect(StrEnum):
    keep = "keep"
    stretch = "stretch"


class SplitName(StrEnum):
    official = "official"
    clean = "clean"
    random = "random"
    kfold = "kfold"
    file = "file"


class Balance(StrEnum):
    none = "none"
    weights = "weights"
    sampling = "sampling"


class Normalisation(StrEnum):
    train = "train"
    weights = "weights"
    none = "none"


class TaskName(StrEnum):
    pathology = "pathology"
    lesion_type_pathology = "lesion_type_pathology"


class Pool(StrEnum):
    avg = "avg"
    max = "max"
    gem = "gem"
    attention = "attention"


class Activation(StrEnum):
    relu = "relu"
    prelu = "prelu"
    elu = "elu"
    leaky_relu = "leaky_relu"


class Norm(StrEnum):
    before = "before"
    after = "after"


class Accelerator(StrEnum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class BenchStage(StrEnum):
    all = "all"
    prepare = "prepare"
    loader = "loader"
    step = "step"
    train = "train"
    evaluate = "evaluate"
    startup = "startup"


class SimulatedStudy(StrEnum):
    intervals = "intervals"
    folds = "folds"
    metrics = "metrics"
    comparison = "comparison"


class Unit(StrEnum):
    image = "image"
    breast = "breast"
    patient = "patient"


class ExportFormat(StrEnum):
    onnx = "onnx"
    torchscript = "torchscript"
    safetensors = "safetensors"


class EvaluatedSplit(StrEnum):
    val = "val"
    test = "test"
    clean_test = "clean_test"
    train = "train"
    all = "all"


class Tta(StrEnum):
    none = "none"
    flips = "flips"


# created by a call, because a name contains a plus sign
Heatmap = StrEnum(
    "Heatmap",
    {
        "gradcam": "gradcam",
        "gradcam++": "gradcam++",
        "layercam": "layercam",
        "eigencam": "eigencam",
        "occlusion": "occlusion",
        "none": "none",
    },
)


class Reduce(StrEnum):
    mean = "mean"
    max = "max"


class SamplerName(StrEnum):
    tpe = "tpe"
    random = "random"
    grid = "grid"
    cmaes = "cmaes"


class PrunerName(StrEnum):
    asha = "asha"
    hyperband = "hyperband"
    median = "median"
    none = "none"


class Phase(StrEnum):
    tune = "tune"
    train = "train"
    test = "test"
    compare = "compare"


class MeanOver(StrEnum):
    none = "none"
    folds = "folds"
    seeds = "seeds"

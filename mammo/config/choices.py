"""The choices of the keys that have a fixed set of values.

Each set is a `StrEnum`: OmegaConf rejects any other value when the configuration is composed, before any
slow import.
"""

from enum import StrEnum


class Abnormality(StrEnum):
    mass = "mass"
    calc = "calc"
    all = "all"


class Birads3(StrEnum):
    leave_out = "leave_out"
    benign = "benign"
    malignant = "malignant"


class Crop(StrEnum):
    breast = "breast"
    none = "none"


class Aspect(StrEnum):
    keep = "keep"
    stretch = "stretch"


class ForProcessing(StrEnum):
    reject = "reject"
    convert = "convert"


class SampleUnit(StrEnum):
    image = "image"
    patch = "patch"
    breast = "breast"
    exam = "exam"


class View(StrEnum):
    """Abbreviations of the views and view modifiers of DICOM PS3.16, context groups 4014 and 4015.

    XCC, an exaggerated CC of unknown direction, is not in DICOM.
    """

    CC = "CC"
    MLO = "MLO"
    ML = "ML"
    LM = "LM"
    LMO = "LMO"
    XCC = "XCC"
    XCCL = "XCCL"
    XCCM = "XCCM"
    FB = "FB"
    SIO = "SIO"
    ISO = "ISO"
    CV = "CV"
    AT = "AT"
    AX = "AX"
    RL = "RL"
    RM = "RM"
    RI = "RI"
    RS = "RS"
    TAN = "TAN"
    NP = "NP"
    IMF = "IMF"
    ID = "ID"


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


class Unlabelled(StrEnum):
    refuse = "refuse"
    leave_out = "leave_out"


class PoolType(StrEnum):
    avg = "avg"
    max = "max"


class MapPool(StrEnum):
    top_k = "top_k"
    lse = "lse"
    noisy_or = "noisy_or"
    lesion_weighted = "lesion_weighted"
    positive_odds = "positive_odds"


# pools of a network with one class more, the background
WITH_BACKGROUND = (MapPool.lesion_weighted, MapPool.positive_odds)


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


class Strategy(StrEnum):
    auto = "auto"
    ddp = "ddp"
    ddp_find_unused_parameters_true = "ddp_find_unused_parameters_true"


# created by a call, because names contain a hyphen
Precision = StrEnum(
    "Precision",
    {"auto": "auto", "32-true": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"},
)


class ClipAlgorithm(StrEnum):
    norm = "norm"
    value = "value"


class Profiler(StrEnum):
    simple = "simple"
    advanced = "advanced"
    pytorch = "pytorch"


class BenchStage(StrEnum):
    all = "all"
    prepare = "prepare"
    loader = "loader"
    patches = "patches"
    step = "step"
    train = "train"
    evaluate = "evaluate"
    startup = "startup"


class RunOrder(StrEnum):
    started = "started"
    score = "score"
    run = "run"
    data = "data"
    status = "status"


class SimulatedStudy(StrEnum):
    intervals = "intervals"
    folds = "folds"
    metrics = "metrics"
    comparison = "comparison"


class Unit(StrEnum):
    image = "image"
    patch = "patch"
    breast = "breast"
    exam = "exam"
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
    scales = "scales"
    flips_scales = "flips_scales"


# created by a call, because a name contains a plus sign
Heatmap = StrEnum(
    "Heatmap",
    {
        "auto": "auto",
        "gradcam": "gradcam",
        "gradcam++": "gradcam++",
        "layercam": "layercam",
        "eigencam": "eigencam",
        "map": "map",
        "lesion": "lesion",
        "occlusion": "occlusion",
        "none": "none",
    },
)
# methods of heat that use no layer of the network
WITHOUT_LAYER = ("occlusion", "map", "lesion")


class PredictOutput(StrEnum):
    csv = "csv"
    html = "html"
    dicom = "dicom"


class OtherImage(StrEnum):
    """Images in a study that are scored only if wanted."""

    spot = "spot"
    biopsy = "biopsy"
    specimen = "specimen"
    synthetic = "synthetic"
    secondary_capture = "secondary_capture"
    other_modality = "other_modality"


class Fusion(StrEnum):
    mean = "mean"
    max = "max"
    concat = "concat"
    attention = "attention"
    cross_view = "cross_view"


class FusionLevel(StrEnum):
    logits = "logits"
    features = "features"


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

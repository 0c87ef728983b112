"""Answers to the items of reporting guidelines, from the facts of the runs and their evaluation.

Each answer is a function of `StudyFacts` that returns a text, or None where the facts are not recorded.
"""

from collections.abc import Callable

from mammo.config.instantiation import TARGET
from mammo.evaluation.explain.localisation import BASELINES
from mammo.evaluation.number_format import count, interval, number
from mammo.evaluation.report.figure_style import readable
from mammo.evaluation.report.report_content import calibration_name, of_samples
from mammo.evaluation.report.report_texts import SCORES
from mammo.evaluation.report.study_data import DataFlow, Part, StudyFacts

Answer = Callable[[StudyFacts], str | None]

_BATCH_AUGMENT = "mammo.data.loading.augment.BatchAugment"
_SOURCES = {
    "phantom": "synthetic mammograms, drawn by a program",
    "cbis_ddsm": "CBIS-DDSM, a public archive of scanned film mammograms (Lee et al. 2017)",
    "csv": "a table of images of the author's own",
}


def _joined(*parts: str | None) -> str | None:
    return "; ".join(filter(None, parts)) or None


def technology(facts: StudyFacts) -> str | None:
    network = facts.part("model")
    return network and f"deep learning: {network}, trained on labelled images"


def study_kind(facts: StudyFacts) -> str | None:
    if not facts.metrics:
        return None
    if facts.metrics.get("data"):
        return "evaluation of a trained model on other data"
    return f"development of a model, and its evaluation on the {facts.split} images of the same data"


def design(facts: StudyFacts) -> str | None:
    return {
        "phantom": "no patients: the images are synthetic",
        "cbis_ddsm": "retrospective: archived images and diagnoses",
    }.get(facts.scored_source or "")


def sources(facts: StudyFacts) -> str | None:
    own = _SOURCES.get(facts.source or "")
    if not facts.metrics.get("data"):
        return own
    return f"training: {own or 'not recorded'}; evaluation: {_SOURCES.get(facts.scored_source or '')}"


def acquisition(facts: StudyFacts) -> str | None:
    return {
        "phantom": "none: the images are synthetic",
        "cbis_ddsm": "screen-film mammography, digitised",
    }.get(facts.scored_source or "")


def eligibility(facts: StudyFacts) -> str | None:
    kind = facts.setting("data.abnormality")
    rejected = facts.flow.rejected
    return _joined(
        {"mass": "only images with masses", "calc": "only images with calcifications"}.get(kind or ""),
        None if rejected is None else f"images need a readable file ({_total(rejected)} have none)",
    )


def preprocessing(facts: StudyFacts) -> str | None:
    height, width = facts.setting("data.height"), facts.setting("data.width")
    if height is None or width is None:
        return None
    crop = {"breast": "cropped to the breast", "none": "the whole film"}.get(str(facts.setting("data.crop")))
    aspect = {"keep": "padded, aspect ratio kept"}.get(str(facts.setting("data.aspect")), "stretched")
    return _joined(
        crop, f"resized to {height} x {width} pixels", aspect,
        f"normalised by data.normalisation={facts.setting('data.normalisation')}",
    )  # fmt: skip


def subsets(facts: StudyFacts) -> str | None:
    sample = facts.setting("data.sample")
    left_out = facts.flow.left_out
    return _joined(
        f"data.sample={sample} images were drawn" if sample else None,
        None
        if left_out is None
        else f"{_total(left_out)} prepared images are in no set, see the flow of images",
    )


def missing_data(facts: StudyFacts) -> str | None:
    rejected = facts.flow.rejected
    unread = None if rejected is None else f"{_total(rejected)} images without a readable file are left out"
    groups = any(group.get("value") is None for group in facts.metrics.get("subgroups") or [])
    known = "missing characteristics are a subgroup of their own, none is imputed" if groups else None
    return _joined(unread, "a missing view is left out of the input" if facts.places else None, known)


def outcome(facts: StudyFacts) -> str | None:
    return {
        "pathology": "malignant or benign: the column pathology of the source's tables",
        "lesion_type_pathology": "lesion type and pathology of the source's tables, in four classes",
    }.get(facts.task.name if facts.task else "", facts.own_outcome)


def reference_standard(facts: StudyFacts) -> str | None:
    return facts.own_outcome or {
        "phantom": "known by construction: the program draws the lesions",
        "cbis_ddsm": "the pathology in the data set's tables; an image is malignant if any of its lesions "
        "is, and benign without callback counts as benign",
        "csv": "the column pathology or label of the author's table",
    }.get(facts.scored_source or "")


def annotators(facts: StudyFacts) -> str | None:
    return "none: known by construction" if facts.scored_source == "phantom" else None


def partitions(facts: StudyFacts) -> str | None:
    split = facts.setting("data.split")
    if split is None:
        return None
    method = f"data.split={split} by patient, data.seed={facts.setting('data.seed')}"
    if split == "kfold":
        method += f", {facts.setting('data.folds')} folds"
    return _joined(method, _sides(facts.flow))


def disjoint(facts: StudyFacts) -> str | None:
    seen = [record.seen for record in facts.records]
    if not seen or any(each is None for each in seen):
        return None
    trained, chosen = (sum(each[f"{kind}_images"] for each in seen if each) for kind in ("trained", "chosen"))
    if not trained and (not chosen or facts.split.startswith("validation")):
        return "the patient: no scored patient is in the training set" + (
            ", nor in the validation set" if not chosen else ", checked by image and patient id"
        )
    return (
        f"not disjoint: {count(trained)} scored images are of patients of the training set and "
        f"{count(chosen)} of patients of the validation set"
    )


def sample_size(facts: StudyFacts) -> str | None:
    n = facts.metrics.get("n") or {}
    if n.get("malignant_patients") is None:
        return None
    images = "" if facts.unit == "image" else f" ({count(n.get('images'))} images)"
    scored = f"{count(n.get(facts.samples))} {facts.samples}{images} of {count(n.get('patients'))} patients"
    malignant = f"{count(n.get(f'malignant_{facts.samples}'))} {facts.words['positive']}"
    return f"{scored} were scored, {malignant} of {count(n['malignant_patients'])} patients"


def model(facts: StudyFacts) -> str | None:
    network = facts.part("model")
    if network is None or facts.setting("data.height") is None:
        return None
    return f"{network}; input: {facts.network_input(pixels=True)}; every setting is listed in Training"


def predictors(facts: StudyFacts) -> str | None:
    seen = f"the pixels of {facts.network_input()}; no clinical information is an input"
    return facts.part("model") and seen


def software(facts: StudyFacts) -> str | None:
    versions = facts.runs[0].get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or None


def code(facts: StudyFacts) -> str | None:
    commits = dict.fromkeys(run["commit"] for run in facts.runs if run.get("commit"))
    return f"commit {', '.join(commits)}" if commits else None


def initialisation(facts: StudyFacts) -> str | None:
    weights, pretrained = facts.setting("model.weights"), facts.setting("model.pretrained")
    if weights:
        return f"weights of the file {weights.replace(chr(92), '/').split('/')[-1]}"
    if facts.part("model") is None:
        return None
    return "ImageNet weights" if pretrained == "True" else "random weights"


def training(facts: StudyFacts) -> str | None:
    optimizer = facts.part("optim")
    if optimizer is None:
        return None
    augment = dict(facts.configs[0].get("augment") or {})
    target = augment.pop(TARGET, None)
    changed = [key for key, value in augment.items() if value]
    if target not in (None, _BATCH_AUGMENT):
        changed = [str(target), *(key for key in changed if key == "mixup")]
    return _joined(
        f"{optimizer}, learning rate {facts.setting('optim.lr')}, schedule {facts.part('schedule')}",
        f"loss {facts.part('loss')}, batches of {facts.setting('data.batch_size')} {facts.samples}",
        f"at most {facts.setting('trainer.max_epochs')} epochs",
        f"augmentation: {', '.join(changed) or 'none'}",
    )


def building(facts: StudyFacts) -> str | None:
    return _joined(technology(facts), training(facts), selection(facts))


def selection(facts: StudyFacts) -> str | None:
    monitors = dict.fromkeys(run.get("monitor") for run in facts.runs)
    if None in monitors:
        return None
    searched = any(run.get("part_of") for run in facts.runs)
    return (
        f"weights of the epoch with the best {' or '.join(map(str, monitors))} on the validation images"
        + ("; the run is part of a search or multirun" if searched else "")
    )


def ensembling(facts: StudyFacts) -> str | None:
    if not facts.records:
        return None
    averaged = facts.setting("trainer.ema_decay")
    tta = {record.tta for record in facts.records} - {"none"}
    return _joined(
        _networks(facts) if len(facts.configs) > 1 and not facts.folds else f"none: {_networks(facts)}",
        f"test-time augmentation: {', '.join(sorted(tta))}" if tta else None,
        f"moving average of the weights, decay {averaged}" if averaged else None,
    )


def _networks(facts: StudyFacts) -> str:
    if facts.folds:
        return f"each {facts.unit} is scored by one of {len(facts.configs)} networks, that of its fold"
    return (
        "one network" if len(facts.configs) == 1 else f"mean of the scores of {len(facts.configs)} networks"
    )


def prediction(facts: StudyFacts) -> str | None:
    return f"{facts.unit}'s {facts.words['score']}; {_networks(facts)}" if facts.records else None


def measures(facts: StudyFacts) -> str | None:
    titles = [SCORES[name][0] for name in of_samples(facts.metrics) if name in SCORES]
    return ", ".join(titles).format(prevalence=facts.method.get("prevalence"), **facts.words) or None


def uncertainty(facts: StudyFacts) -> str | None:
    method = facts.method
    return _joined(
        f"{100 * method['level']:g} % intervals by patient" if method.get("level") else None,
        f"AUC: {method['auc']}" if method.get("auc") else None,
        f"others: {method['interval']}, {method.get('resamples')} resamples"
        if method.get("interval")
        else None,
    )


def robustness(facts: StudyFacts) -> str | None:
    columns = dict.fromkeys(group["column"] for group in facts.metrics.get("subgroups") or [])
    spread = (facts.metrics.get("runs") or {}).get("sd")
    return _joined(
        f"subgroups by {', '.join(map(readable, columns))}" if columns else None,
        f"standard deviation of the AUC over {len(facts.configs)} runs: {number(spread)}" if spread else None,
    )


def explainability(facts: StudyFacts) -> str | None:
    found = (facts.metrics.get("localisation") or {}).get("malignant") or {}
    methods = [name for name in found if name not in BASELINES]
    return _joined(
        f"{', '.join(methods)}, compared with the drawn lesions and with {' and '.join(BASELINES)} points"
        if methods
        else None,
        f"{facts.pictures} pictures of heatmaps" if facts.pictures else None,
    ) or (None if not facts.metrics else "no heatmaps in this evaluation")


def internal_evaluation(facts: StudyFacts) -> str | None:
    if not facts.metrics:
        return None
    if facts.metrics.get("data"):
        return "not on this page: the images are other data"
    kind = f"the {facts.split} {facts.samples}"
    if facts.folds:
        kind = f"out of fold, on the validation {facts.samples} of each fold"
    return f"{kind}: {_area(facts) or 'AUC undefined'}"


def external_evaluation(facts: StudyFacts) -> str | None:
    if not facts.metrics:
        return None
    if not facts.metrics.get("data"):
        return "none on this page: the images are from the data of the training"
    return f"{_SOURCES.get(facts.scored_source or '')}: {_area(facts) or 'AUC undefined'}"


def flow(facts: StudyFacts) -> str | None:
    if facts.flow.source.images is None or facts.flow.rejected is None or facts.flow.left_out is None:
        return None
    return (
        f"{count(facts.flow.source.images)} images in the source, {_total(facts.flow.rejected)} without a "
        f"usable file, {_total(facts.flow.left_out)} in no set, {count(facts.flow.scored.images)} scored"
        f"{f' in {facts.flow.samples}' if facts.flow.samples else ''}; see the flow of images"
    )


def characteristics(facts: StudyFacts) -> str | None:
    return "see the table of characteristics" if facts.has_characteristics else None


def numbers_analysed(facts: StudyFacts) -> str | None:
    return _joined(sample_size(facts), _sides(facts.flow))


def performance(facts: StudyFacts) -> str | None:
    area = _area(facts)
    return area and f"{area}; see Scores"


def accuracy(facts: StudyFacts) -> str | None:
    image = of_samples(facts.metrics)
    shown = [
        f"{name} {number(image[name])}{f' ({interval(image[name])})' if interval(image[name]) else ''}"
        for name in ("sensitivity", "specificity")
        if image.get(name)
    ]
    return _joined(_area(facts), ", ".join(shown))


def cross_tabulation(facts: StudyFacts) -> str | None:
    return "see the confusion matrix" if facts.outcomes else None


def failures(facts: StudyFacts) -> str | None:
    if not facts.outcomes:
        return None
    missed, alarms = (count(facts.outcomes.get(name, 0)) for name in ("missed", "false alarm"))
    return f"{missed} missed {facts.samples} and {alarms} false alarms, listed in Every {facts.unit}"


def threshold(facts: StudyFacts) -> str | None:
    value = of_samples(facts.metrics).get("threshold")
    rule = facts.method.get("threshold")
    if value is None or rule is None:
        return None
    before = f"fixed beforehand on the validation {facts.samples}"
    fixed = before if facts.method.get("calibration") else "not fitted"
    return f"{facts.words['score']} of at least {number(value)}; rule: {rule}; {fixed}"


def output(facts: StudyFacts) -> str | None:
    score = f"a {facts.words['score']} from 0 to 1"
    return _joined(score, threshold(facts)) if facts.metrics else None


def class_balance(facts: StudyFacts) -> str | None:
    balance = facts.setting("data.balance")
    if balance == "none":
        return "no method was used"
    return balance and _joined(f"data.balance={balance}", updating(facts))


def updating(facts: StudyFacts) -> str | None:
    if not facts.method:
        return None
    if not (fitted := facts.method.get("calibration")):
        return "none: the scores are not calibrated"
    method = calibration_name(fitted.get("method"))
    return f"calibration ({method}) on {count(fitted.get('images'))} validation {facts.samples}"


def indeterminate(facts: StudyFacts) -> str | None:
    n = (facts.metrics.get("n") or {}).get(facts.samples)
    return f"none: each of the {count(n)} {facts.samples} has a score" if n else None


def severity(facts: StudyFacts) -> str | None:
    return (
        "lesion type and assessment, see the table of characteristics" if facts.has_characteristics else None
    )


def _area(facts: StudyFacts) -> str | None:
    area = of_samples(facts.metrics).get("auc")
    if number(area, missing="") == "":
        return None
    name, limits = "mean AUC of the folds" if facts.folds else "AUC", interval(area)
    return f"{name} {number(area)}{f' ({limits})' if limits else ''}"


def _sides(flow_of_images: DataFlow) -> str | None:
    return ", ".join(f"{part.name} {count(part.images)} images" for part in flow_of_images.sides) or None


def _total(parts: tuple[Part, ...]) -> str:
    return count(sum(part.images or 0 for part in parts))

"""Texts of a report: names of the scores, and how each figure and table is computed."""

from collections.abc import Mapping
from typing import Any

from mammo.evaluation.predictions import Unit

# All texts are formatted with `Task.words` and `sample_words`.
# Title and meaning of each score, in the order of the page.
SCORES = {
    "auc": ("AUC", "probability that a {positive} case scores higher than a {negative} one; 0.5 is chance"),
    "auc_delong": ("AUC, DeLong by patient", "the same value, with the interval usual in the literature"),
    "auc_pooled": ("AUC, pooled", "over the {samples} of all folds, ranked within each fold"),
    "partial_auc": ("Partial AUC", "AUC of the part with a specificity of at least 80 %; 0.5 is chance"),
    "average_precision": ("Average precision", "area under the precision-recall curve"),
    "pr_auc": ("PR-AUC", "area under the precision-recall curve"),
    "sensitivity_at_80_specificity": ("Sensitivity at 80 % specificity", "found on these {samples}"),
    "sensitivity_at_90_specificity": ("Sensitivity at 90 % specificity", "found on these {samples}"),
    "specificity_at_80_sensitivity": ("Specificity at 80 % sensitivity", "found on these {samples}"),
    "specificity_at_90_sensitivity": ("Specificity at 90 % sensitivity", "found on these {samples}"),
    "threshold": ("Operating threshold", "lowest score that is classified as {positive}"),
    "sensitivity": ("Sensitivity", "at the operating threshold"),
    "specificity": ("Specificity", "at the operating threshold"),
    "sensitivity_validation": (
        "Sensitivity, validation {samples}",
        "at the threshold, which was fixed on them",
    ),
    "specificity_validation": (
        "Specificity, validation {samples}",
        "at the threshold, which was fixed on them",
    ),
    "accuracy": ("Accuracy", "at the operating threshold"),
    "balanced_accuracy": ("Balanced accuracy", "at the operating threshold"),
    "f1": ("F1", "at the operating threshold"),
    "ppv": ("PPV", "share of {positive} cases among those called {positive}; depends on their share here"),
    "npv": ("NPV", "share of {negative} cases among those called {negative}; depends on their share here"),
    "ppv_at_prevalence": (
        "PPV at a prevalence of {prevalence:g}",
        "by Bayes from sensitivity and specificity",
    ),
    "npv_at_prevalence": (
        "NPV at a prevalence of {prevalence:g}",
        "by Bayes from sensitivity and specificity",
    ),
    "positive_likelihood_ratio": (
        "Positive likelihood ratio",
        "sensitivity / (1 - specificity); 1 is chance",
    ),
    "negative_likelihood_ratio": (
        "Negative likelihood ratio",
        "(1 - sensitivity) / specificity; 1 is chance",
    ),
    "brier": ("Brier score", "mean squared difference of score and truth; 0 is best"),
    "log_loss": ("Log loss", "mean negative log likelihood of the truth, in nats; 0 is best"),
    "ece": (
        "Calibration error (ECE)",
        "mean difference between score and share of {positive} cases; 0 is best",
    ),
    "calibration_slope": ("Calibration slope", "1 is best, below 1 the scores are too extreme"),
    "calibration_in_the_large": (
        "Calibration-in-the-large",
        "intercept with the slope fixed to 1; 0 is best, below 0 the scores are too high",
    ),
    "observed_expected_ratio": (
        "Observed / expected (O:E)",
        "number of {positive} cases / sum of the scores; 1 is best, below 1 the scores are too high",
    ),
}

# Descriptions of the figures for screen readers.
TEXTS = {
    "flow": "Flow of the images from the source to the {split} scores; the numbers are in its boxes.",
    "loss": "Curves of the loss on training and validation {samples} by epoch.",
    "auc": "Curves of the AUC on training and validation {samples} by epoch.",
    "kappa": "Curves of the quadratic weighted kappa on training and validation {samples} by epoch.",
    "accuracy": "Curves of the accuracy on training and validation {samples} by epoch.",
    "roc": "ROC curve of the {split} {samples} with its band; the numbers are in the table of scores.",
    "precision_recall": "Precision-recall curve of the {split} {samples}.",
    "reliability": "Share of {positive} {split} {samples} by score, and how many {samples} have that score.",
    "calibration_curve": "Smooth curve of the share of {positive} {split} {samples} by score, with its band.",
    "decision_curve": "Net benefit on the {split} {samples} by threshold: model, all and none called "
    "{positive}.",
    "histogram": "Histograms of the scores of {negative} and of {positive} {split} {samples}.",
    "confusion": "Numbers of {split} {samples} by truth and by the class at the threshold.",
    "confusion_classes": "Numbers of {split} {samples} by class and by the class of the highest score.",
    "subgroups": "AUC with interval for each subgroup of the {split} {samples}; the table has the numbers.",
    "froc": "Share of {positive} lesions marked by false marks per image, for each heatmap method.",
}

# How each figure and table is computed: what, from which samples or images, with which interval.
_HOW = {
    "flow": "counted in the tables of the prepared store (images.parquet, rejected.csv), the lists of the "
    "run (split/) and predictions.csv. Images add up at each step; a patient can have images in two boxes",
    "characteristics": "counted in the images table of the prepared store, for the lists of the run. Shares "
    "are of the images (of the patients in their rows) of the set; missing values are counted, none is "
    "imputed",
    "members": "AUC by {sample} of each run on the {samples} that it scored, with the score interval by "
    "patient; the other columns are recorded settings of the runs{spread}",
    "settings": "copied from config.yaml of {runs}; nothing is computed",
    "loss": "mean of the loss over the {samples} of an epoch; no interval",
    "auc_curve": "AUC by {sample} in each epoch; the training AUC is measured while the weights change; no "
    "interval",
    "accuracy": "share of {samples} whose class has the highest score in each epoch; no interval",
    "kappa": "Cohen's kappa with quadratic weights of the class of the highest score in each epoch; no "
    "interval",
    "roc": "sensitivity and specificity of {these} at every threshold{ranks}. Band: at each specificity 95 "
    "% of the curves of 500 resamples of the patients",
    "precision_recall": "precision and sensitivity of {these} at every threshold{ranks}; no band. "
    "Precision depends on the share of {positive} {samples}, which differs from that in screening",
    "scores": "computed from the scores of {these}{units}. AUC: score interval by patient; sensitivity, "
    "specificity and accuracy at the threshold: Wilson's interval with a design effect; average precision, "
    "partial AUC, PPV, NPV, balanced accuracy and F1: jackknife of the patients; sensitivity at a "
    "specificity and the reverse: union of Wilson's interval and percentiles of {resamples} resamples of the "
    "patients; others: these percentiles. With fewer than 10 {positive} or {negative} patients all but that "
    "of the AUC are the widest of all methods",
    "multiclass": "computed from the scores of the classes of {these}. {multiclass}",
    "reliability": "share of {positive} {samples} among {these} in bins of equal numbers of {samples}, at "
    "most 10 bins. Bars: 95 % Wilson intervals, with the number of patients in the bin as sample size. "
    "Below: number of {samples} by score",
    "calibration_curve": "logistic regression of the truth of {these} on a restricted cubic spline of the "
    "log odds of the score. Band: 95 % of the curves of 500 resamples of the patients",
    "histogram": "number of {negative} and {positive} {samples} among {these} in 25 bins of the score; no "
    "interval",
    "own": "computed from all scores and classes of {these} at once, by the classes named in metrics of "
    "config.yaml; no interval",
    "confusion": "number of {samples} among {these} by truth and by class at the threshold, and share of the "
    "row; no interval, see sensitivity and specificity in the table of scores",
    "confusion_classes": "number of {samples} among {these} by truth and by class of the highest score, and "
    "share of the row; no interval",
    "decision_curve": "true positives minus false positives weighted by the odds of the threshold, by "
    "{sample}, on {these}. Band: 95 % of the curves of 500 resamples of the patients. It holds for the share "
    "of {positive} {samples} here, not for that in screening",
    "subgroups": "AUC by {sample} of each group of {these}, with the score interval by patient. Right: "
    "number of {samples}, {positive} ones in brackets",
    "subgroup_table": "AUC of each group of {these}: score interval by patient; sensitivity and "
    "specificity at the operating threshold: Wilson's interval with a design effect; "
    "calibration-in-the-large: percentiles of {resamples} resamples of the patients of the group",
    "subgroup_tests": "Wald's chi-square test of equal log odds of the AUCs of the groups of {these}, with "
    "covariances by patient; Holm's adjustment over the columns. Unknown values and groups that are too "
    "small are left out",
    "localisation": "means over those of {images} that have a drawn lesion. Pointing game: Wilson's interval "
    "with a design effect; IoU and heat inside: jackknife of the patients; lesions found: as in the FROC",
    "froc": "share of {positive} lesions of {images} with a mark, by the number of marks outside lesions per "
    "image. Bars: union of Wilson's interval at the observed threshold and percentiles of {resamples} "
    "resamples of the patients",
    "gallery": "heatmaps of single {samples} out of {these}, chosen by the given reason; no interval",
    "images": "copied from predictions.csv{at_threshold}; nothing is estimated",
    "checklist": "filled from the files of {runs}; the numbers are those of the guideline, the topics are "
    "paraphrased",
}

# For each kind of samples: the units with a label, and how those above the samples get a score.
_UNITS: dict[Unit, tuple[str, str]] = {
    "image": ("a breast or a patient", "its score is the {reduce} of those of its images"),
    "breast": ("a breast or a patient", "the score of a patient is the {reduce} of those of her breasts"),
    "exam": (
        "an exam, a breast or a patient",
        "the score of a breast is that of its side of the exam, of a patient the {reduce} of those of her "
        "exams",
    ),
}


def _of_units(unit: Unit, reduce: str | None) -> str:
    if unit not in _UNITS:
        return ""
    names, score = _UNITS[unit]
    score = f", {score.format(reduce=reduce)}" if reduce else ""
    return f"; {names} is {{positive}} if any of its images is{score}"


def hows(
    metrics: Mapping[str, Any],
    *,
    unit: Unit,
    these: str,
    images: str,
    runs: int,
    folds: bool,
    threshold: bool,
    words: Mapping[str, str],
) -> dict[str, str]:
    """Return a sentence on each figure and table: what is computed, from what, with which interval.

    Args:
        metrics: content of `metrics.json`.
        unit: what a sample is.
        these: the samples, such as `the 320 test breasts`.
        images: their images, such as `the 641 test images`.
        runs: number of runs.
        folds: whether the scores are of the networks of several folds.
        threshold: whether there is an operating threshold.
        words: what samples and the positive and negative ones are called, `Task.words` and `sample_words`.
    """
    method = metrics.get("method")
    method = method if isinstance(method, dict) else {}
    sd = (metrics.get("runs") or {}).get("sd")
    kappa = "; kappa: jackknife of the patients on Fisher's z scale" if "kappa" in method else ""
    resamples = method.get("resamples", "the recorded number of")
    reduce = {"mean": "mean", "max": "highest"}.get(method.get("reduce", ""))
    facts = {
        **words,
        "these": these,
        "images": images,
        "runs": "the run" if runs == 1 else f"the {runs} runs",
        "resamples": resamples,
        "multiclass": f"Macro AUC: score interval by patient; others: percentiles of {resamples} resamples "
        f"of the patients{kappa}"
        if "words" in metrics
        else f"AUC: score interval by patient; accuracy: Wilson's interval with a design effect{kappa}",
        "spread": ""
        if sd is None
        else ". Standard deviation: with n - 1, of the AUCs of the runs, without interval",
        "ranks": ", by rank within each fold" if folds else "",
        "units": _of_units(unit, reduce).format(**words),
        "at_threshold": " and compared with the operating threshold" if threshold else "",
    }
    return {name: f"{text.format(**facts)}." for name, text in _HOW.items()}

"""Texts of a report: names of the scores, and how each figure and table is computed."""

from collections.abc import Mapping
from typing import Any

# Title and meaning of each score, in the order of the page.
SCORES = {
    "auc": ("AUC", "probability that a malignant case scores higher than a benign one; 0.5 is chance"),
    "auc_delong": ("AUC, DeLong by patient", "the same value, with the interval usual in the literature"),
    "auc_pooled": ("AUC, pooled", "over the images of all folds, ranked within each fold"),
    "partial_auc": ("Partial AUC", "AUC of the part with a specificity of at least 80 %; 0.5 is chance"),
    "average_precision": ("Average precision", "area under the precision-recall curve"),
    "pr_auc": ("PR-AUC", "area under the precision-recall curve"),
    "sensitivity_at_80_specificity": ("Sensitivity at 80 % specificity", "found on these images"),
    "sensitivity_at_90_specificity": ("Sensitivity at 90 % specificity", "found on these images"),
    "specificity_at_80_sensitivity": ("Specificity at 80 % sensitivity", "found on these images"),
    "specificity_at_90_sensitivity": ("Specificity at 90 % sensitivity", "found on these images"),
    "threshold": ("Operating threshold", "lowest score that is classified as malignant"),
    "sensitivity": ("Sensitivity", "at the operating threshold"),
    "specificity": ("Specificity", "at the operating threshold"),
    "sensitivity_validation": ("Sensitivity, validation images", "at the threshold, which was fixed on them"),
    "specificity_validation": ("Specificity, validation images", "at the threshold, which was fixed on them"),
    "accuracy": ("Accuracy", "at the operating threshold"),
    "balanced_accuracy": ("Balanced accuracy", "at the operating threshold"),
    "f1": ("F1", "at the operating threshold"),
    "ppv": ("PPV", "share of malignant cases among those called malignant; depends on their share here"),
    "npv": ("NPV", "share of benign cases among those called benign; depends on their share here"),
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
        "mean difference between score and share of malignant cases; 0 is best",
    ),
    "calibration_slope": ("Calibration slope", "1 is best, below 1 the scores are too extreme"),
    "calibration_in_the_large": (
        "Calibration-in-the-large",
        "intercept with the slope fixed to 1; 0 is best, below 0 the scores are too high",
    ),
    "observed_expected_ratio": (
        "Observed / expected (O:E)",
        "number of malignant cases / sum of the scores; 1 is best, below 1 the scores are too high",
    ),
}

# Descriptions of the figures for screen readers.
TEXTS = {
    "flow": "Flow of the images from the source to the {split} scores; the numbers are in its boxes.",
    "loss": "Curves of the loss on training and validation images by epoch.",
    "auc": "Curves of the AUC on training and validation images by epoch.",
    "accuracy": "Curves of the accuracy on training and validation images by epoch.",
    "roc": "ROC curve of the {split} images with its band; the numbers are in the table of scores.",
    "precision_recall": "Precision-recall curve of the {split} images.",
    "reliability": "Share of malignant {split} images by score, and how many images have that score.",
    "calibration_curve": "Smooth curve of the share of malignant {split} images by score, with its band.",
    "decision_curve": "Net benefit on the {split} images by threshold: model, all and none called malignant.",
    "histogram": "Histograms of the scores of benign and of malignant {split} images.",
    "confusion": "Numbers of {split} images by truth and by the class at the threshold.",
    "confusion_classes": "Numbers of {split} images by class and by the class of the highest score.",
    "subgroups": "AUC with interval for each subgroup of the {split} images; the table has the numbers.",
    "froc": "Share of malignant lesions marked by false marks per image, for each heatmap method.",
}

# How each figure and table is computed: what, from which images, with which interval.
_HOW = {
    "flow": "counted in the tables of the prepared store (images.parquet, rejected.csv), the lists of the "
    "run (split/) and predictions.csv. Images add up at each step; a patient can have images in two boxes",
    "characteristics": "counted in the images table of the prepared store, for the lists of the run. Shares "
    "are of the images (of the patients in their rows) of the set; missing values are counted, none is "
    "imputed",
    "members": "AUC by image of each run on the images that it scored, with the score interval by patient; "
    "the other columns are recorded settings of the runs{spread}",
    "settings": "copied from config.yaml of {runs}; nothing is computed",
    "loss": "mean of the loss over the images of an epoch; no interval",
    "auc_curve": "AUC by image in each epoch; the training AUC is measured while the weights change; no "
    "interval",
    "accuracy": "share of images whose class has the highest score in each epoch; no interval",
    "roc": "sensitivity and specificity of {images} at every threshold{ranks}. Band: at each specificity 95 "
    "% of the curves of 500 resamples of the patients",
    "precision_recall": "precision and sensitivity of {images} at every threshold{ranks}; no band. "
    "Precision depends on the share of malignant images, which differs from that in screening",
    "scores": "computed from the scores of {images}; a breast or a patient is malignant if any of its "
    "images is{reduce}. AUC: score interval by patient; sensitivity, specificity and accuracy at the "
    "threshold: Wilson's interval with a design effect; average precision, partial AUC, PPV, NPV, balanced "
    "accuracy and F1: jackknife of the patients; sensitivity at a specificity and the reverse: union of "
    "Wilson's interval and percentiles of {resamples} resamples of the patients; others: these percentiles. "
    "With fewer than 10 malignant or benign patients the first three are the widest of all methods",
    "multiclass": "computed from the four scores of {images}. Macro AUC: score interval by patient; others: "
    "percentiles of {resamples} resamples of the patients",
    "reliability": "share of malignant images among {images} in 15 bins of the score. Bars: 95 % Wilson "
    "intervals, with the number of patients in the bin as sample size. Below: number of images by score",
    "calibration_curve": "logistic regression of the truth of {images} on a restricted cubic spline of the "
    "log odds of the score. Band: 95 % of the curves of 500 resamples of the patients",
    "histogram": "number of benign and malignant images among {images} in 25 bins of the score; no interval",
    "confusion": "number of images among {images} by truth and by class at the threshold, and share of the "
    "row; no interval, see sensitivity and specificity in the table of scores",
    "confusion_classes": "number of images among {images} by truth and by class of the highest score, and "
    "share of the row; no interval",
    "decision_curve": "true positives minus false positives weighted by the odds of the threshold, by "
    "image, on {images}. Band: 95 % of the curves of 500 resamples of the patients. It holds for the share "
    "of malignant images here, not for that in screening",
    "subgroups": "AUC by image of each group of {images}, with the score interval by patient. Right: number "
    "of images, malignant ones in brackets",
    "subgroup_table": "AUC of each group of {images}: score interval by patient; sensitivity and "
    "specificity at the operating threshold: Wilson's interval with a design effect; "
    "calibration-in-the-large: percentiles of {resamples} resamples of the patients of the group",
    "subgroup_tests": "Wald's chi-square test of equal log odds of the AUCs of the groups of {images}, with "
    "covariances by patient; Holm's adjustment over the columns. Unknown values and groups that are too "
    "small are left out",
    "localisation": "means over those of {images} that have a drawn lesion. Pointing game: Wilson's interval "
    "with a design effect; IoU and heat inside: jackknife of the patients; lesions found: as in the FROC",
    "froc": "share of malignant lesions of {images} with a mark, by the number of marks outside lesions per "
    "image. Bars: union of Wilson's interval at the observed threshold and percentiles of {resamples} "
    "resamples of the patients",
    "gallery": "heatmaps of single images out of {images}, chosen by the given reason; no interval",
    "images": "copied from predictions.csv{at_threshold}; nothing is estimated",
    "checklist": "filled from the files of {runs}; the numbers are those of the guideline, the topics are "
    "paraphrased",
}


def hows(
    metrics: Mapping[str, Any], *, images: str, runs: int, folds: bool, threshold: bool
) -> dict[str, str]:
    """Return a sentence on each figure and table: what is computed, from which images, with which interval.

    Args:
        metrics: content of `metrics.json`.
        images: the images, such as `the 641 test images`.
        runs: number of runs.
        folds: whether the scores are of the networks of several folds.
        threshold: whether there is an operating threshold.
    """
    method = metrics.get("method")
    method = method if isinstance(method, dict) else {}
    sd = (metrics.get("runs") or {}).get("sd")
    reduce = {"mean": "mean", "max": "highest"}.get(method.get("reduce", ""))
    facts = {
        "images": images,
        "runs": "the run" if runs == 1 else f"the {runs} runs",
        "resamples": method.get("resamples", "the recorded number of"),
        "spread": ""
        if sd is None
        else ". Standard deviation: with n - 1, of the AUCs of the runs, without interval",
        "ranks": ", by rank within each fold" if folds else "",
        "reduce": f", its score is the {reduce} of those of its images" if reduce else "",
        "at_threshold": " and compared with the operating threshold" if threshold else "",
    }
    return {name: f"{text.format(**facts)}." for name, text in _HOW.items()}

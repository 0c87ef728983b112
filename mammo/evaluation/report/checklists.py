"""The items of CLAIM 2024, TRIPOD+AI and STARD 2015, each with the function that answers it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mammo.evaluation.report import checklist_answers as answers
from mammo.evaluation.report.checklist_answers import Answer
from mammo.evaluation.report.study_data import StudyFacts


class Item(NamedTuple):
    """An item of a guideline.

    Attributes:
        number: number in the guideline.
        topic: topic in short, in the words of this project.
        answer: function of the facts; None if only the author can answer the item.
        author: what the author has to add to the answer; empty if the answer is enough.
    """

    number: str
    topic: str
    answer: Answer | None = None
    author: str = ""


@dataclass(frozen=True)
class Checklist:
    """A reporting guideline.

    Attributes:
        key: name for links.
        title: name of the guideline.
        source: publication.
        items: its items, in its order.
    """

    key: str
    title: str
    source: str
    items: tuple[Item, ...]


class Row(NamedTuple):
    """An item as the page shows it; `status` is `answered`, `in part`, `for the author` or `not recorded`."""

    number: str
    topic: str
    status: str
    text: str


def filled(items: Sequence[Item], facts: StudyFacts) -> list[Row]:
    """Answer the items from the facts."""
    return [_row(item, facts) for item in items]


# Answers to which an author has nothing to add if the images are synthetic.
_WHOLE_IF_SYNTHETIC: tuple[Answer, ...] = (
    answers.acquisition,
    answers.annotators,
    answers.design,
    answers.reference_standard,
)


def _row(item: Item, facts: StudyFacts) -> Row:
    if item.answer is None:
        return Row(item.number, item.topic, "for the author", item.author)
    text = item.answer(facts)
    whole = facts.scored_source == "phantom" and item.answer in _WHOLE_IF_SYNTHETIC
    to_add = f"for the author: {item.author}" if item.author and not whole else ""
    if text is None:
        return Row(item.number, item.topic, "for the author" if to_add else "not recorded", item.author)
    return Row(
        item.number, item.topic, "in part" if to_add else "answered", "; ".join(filter(None, (text, to_add)))
    )


CLAIM = Checklist(
    "claim",
    "CLAIM 2024",
    "Tejani et al. 2024, Checklist for Artificial Intelligence in Medical Imaging: 2024 update, Radiology: "
    "Artificial Intelligence 6:e240300",
    (
        Item("1", "Title or abstract names the kind of AI", answers.technology, "the title"),
        Item("2", "Summary in the abstract"),
        Item("3", "Background, intended use and role of the AI"),
        Item("4", "Aims and hypotheses"),
        Item("5", "Prospective or retrospective", answers.design, "how the images were collected"),
        Item("6", "Goal of the study", answers.study_kind, "what the result is for"),
        Item("7", "Sources of the data", answers.sources, "places, dates and how well they fit the use"),
        Item("8", "Criteria for inclusion and exclusion", answers.eligibility, "criteria of the data set"),
        Item("9", "Preprocessing", answers.preprocessing),
        Item("10", "Selection of subsets", answers.subsets),
        Item("11", "De-identification of the data"),
        Item("12", "Missing data", answers.missing_data),
        Item("13", "Acquisition of the images", answers.acquisition, "devices and protocol"),
        Item("14", "Definition of the reference standard", answers.reference_standard, "how it was obtained"),
        Item("15", "Reason for this reference standard"),
        Item("16", "Source of the annotations", answers.annotators, "readers and their qualifications"),
        Item("17", "Annotation of the test images", answers.annotators, "readers and tools"),
        Item("18", "Variability between and within readers", answers.annotators, "agreement of the readers"),
        Item("19", "Assignment to partitions", answers.partitions),
        Item("20", "Level at which partitions are disjoint", answers.disjoint),
        Item("21", "Size of the test set", answers.sample_size, "how the size was determined"),
        Item("22", "Description of the model", answers.model),
        Item("23", "Software and its versions", answers.software),
        Item("24", "Initialisation of the parameters", answers.initialisation),
        Item("25", "Training", answers.training),
        Item("26", "Selection of the final model", answers.selection),
        Item("27", "Ensembling", answers.ensembling),
        Item("28", "Measures of performance", answers.measures, "why these measures"),
        Item("29", "Uncertainty and significance", answers.uncertainty),
        Item("30", "Robustness and sensitivity analysis", answers.robustness),
        Item("31", "Explainability and its validation", answers.explainability),
        Item("32", "Evaluation on internal data", answers.internal_evaluation),
        Item("33", "Testing on external data", answers.external_evaluation),
        Item("34", "Registration of a clinical trial"),
        Item("35", "Numbers included and excluded", answers.flow),
        Item("36", "Characteristics of each partition", answers.characteristics, "age and other demography"),
        Item("37", "Performance and its uncertainty", answers.performance),
        Item("38", "Diagnostic accuracy and its precision", answers.accuracy),
        Item("39", "Analysis of failures", answers.failures, "their causes"),
        Item("40", "Limitations", None, "see Limits in the model card"),
        Item("41", "Implications for practice"),
        Item(
            "42",
            "Study protocol and technical details",
            answers.code,
            "the protocol; every setting is listed",
        ),
        Item("43", "Availability of software, model and data", answers.code, "where they can be obtained"),
        Item("44", "Funding and role of the funders"),
    ),
)

TRIPOD_AI = Checklist(
    "tripod",
    "TRIPOD+AI",
    "Collins et al. 2024, TRIPOD+AI statement, BMJ 385:e078378",
    (
        Item("1", "Title: model, population, outcome"),
        Item("2", "Abstract"),
        Item("3a", "Healthcare context and existing models"),
        Item("3b", "Target population, purpose and users"),
        Item("3c", "Known inequalities in health"),
        Item("4", "Objectives: development or evaluation", answers.study_kind, "the objectives"),
        Item("5a", "Sources of the data", answers.sources, "why these data, how representative they are"),
        Item("5b", "Dates of the data"),
        Item("6a", "Setting and centres"),
        Item("6b", "Eligibility", answers.eligibility, "criteria of the data set"),
        Item("6c", "Treatments"),
        Item("7", "Preparation of the data", answers.preprocessing),
        Item("8a", "Definition of the outcome", answers.outcome, "when and how it was assessed"),
        Item("8b", "Assessors of the outcome", answers.annotators, "their qualifications"),
        Item("8c", "Blinding of the assessment", answers.annotators, "what the assessors knew"),
        Item("9a", "Choice of the predictors", answers.predictors),
        Item("9b", "Definition of the predictors", answers.predictors),
        Item("9c", "Assessors of the predictors", answers.predictors),
        Item("10", "Size of the study", answers.numbers_analysed, "how the size was determined"),
        Item("11", "Missing data", answers.missing_data),
        Item("12a", "Use and partition of the data", answers.partitions),
        Item("12b", "Handling of the predictors", answers.preprocessing),
        Item("12c", "Type of the model, its building, internal validation", answers.building),
        Item(
            "12d", "Heterogeneity between clusters, such as hospitals", None, "centres are not in the tables"
        ),
        Item("12e", "Measures and plots of performance", answers.measures),
        Item("12f", "Updating of the model", answers.updating),
        Item("12g", "How predictions were calculated", answers.prediction),
        Item("13", "Class imbalance", answers.class_balance),
        Item("14", "Fairness", answers.robustness, "sociodemographic groups, which are not in the tables"),
        Item("15", "Output of the model and threshold", answers.output),
        Item("16", "Differences of development and evaluation data", answers.characteristics, "setting"),
        Item("17", "Ethical approval"),
        Item("18a", "Funding"),
        Item("18b", "Conflicts of interest"),
        Item("18c", "Protocol"),
        Item("18d", "Registration"),
        Item("18e", "Sharing of data"),
        Item("18f", "Sharing of code", answers.code, "where it can be obtained"),
        Item("19", "Involvement of patients and the public"),
        Item("20a", "Flow of participants", answers.flow),
        Item("20b", "Characteristics of participants", answers.characteristics, "demography, dates"),
        Item("20c", "Comparison with the development data", answers.characteristics),
        Item("21", "Participants and events in each analysis", answers.numbers_analysed),
        Item("22", "Full specification of the model", answers.model, "where the weights can be obtained"),
        Item("23a", "Performance with intervals", answers.accuracy),
        Item("23b", "Heterogeneity of performance between clusters", None, "centres are not in the tables"),
        Item("24", "Results of updating", answers.updating),
        Item("25", "Interpretation"),
        Item("26", "Limitations", None, "see Limits in the model card"),
        Item("27a", "Poor or missing input in use"),
        Item("27b", "Interaction and expertise of users"),
        Item("27c", "Next steps of research"),
    ),
)

STARD = Checklist(
    "stard",
    "STARD 2015",
    "Bossuyt et al. 2015, STARD 2015, BMJ 351:h5527",
    (
        Item("1", "Title or abstract names a measure of accuracy"),
        Item("2", "Structured abstract"),
        Item("3", "Background, intended use and role of the test"),
        Item("4", "Objectives and hypotheses"),
        Item("5", "Prospective or retrospective", answers.design, "how the images were collected"),
        Item("6", "Eligibility", answers.eligibility, "criteria of the data set"),
        Item("7", "How eligible participants were identified"),
        Item("8", "Where and when they were identified"),
        Item("9", "Consecutive, random or convenience series"),
        Item("10a", "Index test", answers.model),
        Item("10b", "Reference standard", answers.reference_standard, "how it was obtained"),
        Item("11", "Reason for this reference standard"),
        Item("12a", "Threshold of the index test", answers.threshold),
        Item("12b", "Categories of the reference standard", answers.outcome),
        Item("13a", "What the reader of the index test knew", answers.predictors),
        Item("13b", "What the assessor of the reference standard knew", answers.annotators, "blinding"),
        Item("14", "Methods for estimates of accuracy", answers.uncertainty),
        Item("15", "Indeterminate results", answers.indeterminate),
        Item("16", "Missing data", answers.missing_data),
        Item("17", "Variability of accuracy", answers.robustness, "whether the groups were planned"),
        Item("18", "Size of the study", answers.sample_size, "how the size was determined"),
        Item("19", "Flow of participants", answers.flow),
        Item("20", "Characteristics of participants", answers.characteristics, "demography"),
        Item("21a", "Severity of disease in those with it", answers.severity),
        Item("21b", "Alternative diagnoses in those without"),
        Item("22", "Time and treatment between the tests"),
        Item("23", "Cross tabulation of test and reference", answers.cross_tabulation),
        Item("24", "Accuracy and its precision", answers.accuracy),
        Item("25", "Adverse events"),
        Item("26", "Limitations", None, "see Limits in the model card"),
        Item("27", "Implications for practice"),
        Item("28", "Registration"),
        Item("29", "Protocol"),
        Item("30", "Funding"),
    ),
)

CHECKLISTS = (CLAIM, TRIPOD_AI, STARD)

"""What is told apart: the classes of a task and each image's label."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CLASSES = {"pathology": ("BENIGN", "MALIGNANT")}


def labels(images: pd.DataFrame, *, task: str) -> NDArray[np.int64]:
    """N indices into `CLASSES[task]`, one for each row of the images table."""
    classes = list(CLASSES[task])
    return np.array([classes.index(pathology) for pathology in images["pathology"]], dtype=np.int64)

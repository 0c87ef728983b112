import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from mammo.data.loading.loader import NO_CLASS
from mammo.training.losses import CrossEntropy, Focal, FocalLoss, cell_loss, cell_targets


@st.composite
def classified(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Logits (B C), labels (B) and class weights (C), or none."""
    count, classes = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    logits = 5 * torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    weights = torch.rand(classes, generator=generator) + 0.1
    return logits, labels, weights if draw(st.booleans()) else None


@settings(deadline=None)
@given(classified(), st.floats(0, 1))
def test_focal_loss_without_focus_is_cross_entropy(
    case: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None], smoothing: float
) -> None:
    logits, labels, weights = case
    logits.requires_grad_()
    plain = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, labels)
    focal = FocalLoss(weight=weights, gamma=0.0, label_smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(focal, plain)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (focal, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@settings(deadline=None)
@given(classified(), st.floats(0, 5))
def test_two_classes_are_the_sigmoid_focal_loss(
    case: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None], gamma: float
) -> None:
    logits, labels, _ = case
    logits, labels = logits[:, :2], labels.clamp(max=1)
    of_difference = (logits[:, 1] - logits[:, 0], labels.float())
    expected = sigmoid_focal_loss(*of_difference, alpha=-1, gamma=gamma, reduction="mean")
    focal = FocalLoss(weight=None, gamma=gamma, label_smoothing=0.0)(logits, labels)
    torch.testing.assert_close(focal, expected, rtol=1e-4, atol=1e-6)
    weighted = FocalLoss(weight=torch.tensor([0.7, 0.3]), gamma=gamma, label_smoothing=0.0)(logits, labels)
    by_alpha = sigmoid_focal_loss(*of_difference, alpha=0.3, gamma=gamma, reduction="sum")
    torch.testing.assert_close(weighted, by_alpha / (0.7 - 0.4 * labels).sum(), rtol=1e-4, atol=1e-6)


def test_by_hand() -> None:
    """p is 0.8 for the label; smoothing 0.2 gives it the target 0.9, and 0.1 to the other class."""
    logits = torch.tensor([[0.8, 0.2]]).log()
    loss = FocalLoss(weight=None, gamma=2.0, label_smoothing=0.2)(logits, torch.tensor([0]))
    assert float(loss) == pytest.approx(0.9 * 0.2**2 * 0.2231436 + 0.1 * 0.8**2 * 1.6094379)


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("label", [0, 1])
def test_certain_predictions_have_finite_gradients(gamma: float, label: int) -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    FocalLoss(weight=None, gamma=gamma, label_smoothing=0.1)(logits, torch.tensor([label])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_terms_of_the_losses() -> None:
    weights = torch.tensor([1.0, 2.0])
    plain = CrossEntropy(class_weights=weights, label_smoothing=0.1)
    focal = Focal(class_weights=weights, label_smoothing=0.1, gamma=3.0)
    assert isinstance(plain.classes, nn.CrossEntropyLoss)
    assert isinstance(focal.classes, FocalLoss)
    assert (plain.classes.label_smoothing, focal.classes.label_smoothing, focal.classes.gamma) == (
        0.1,
        0.1,
        3.0,
    )
    # the checkpoints of both losses have the same keys
    assert list(plain.state_dict()) == list(focal.state_dict()) == ["classes.weight"]


def test_cells_of_two_lesions_by_hand() -> None:
    """Cells of 10 x 10 pixels; the second lesion is too small to have the centre of a cell in it."""
    boxes = torch.tensor([[[8.0, 4, 26, 16], [31, 31, 34, 33], [math.nan] * 4]])
    labels = torch.tensor([[1, 0, -1]])
    target = cell_targets(boxes, labels, cells=(4, 4), size=(40, 40))
    # the second row overlaps the first lesion at its centre too, the first column only at its edge
    assert target.tolist() == [[[-1, 2, 2, 0], [-1, 2, 2, 0], [0, 0, 0, 0], [0, 0, 0, 1]]]
    unknown = cell_targets(boxes, torch.tensor([[-1, 0, -1]]), cells=(4, 4), size=(40, 40))
    assert unknown.tolist() == [[[-1, -1, -1, 0], [-1, -1, -1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]]


@st.composite
def boxed(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (3 4) and labels (3) of up to three lesions of an image of 40 x 40."""
    lesion = st.tuples(*[st.integers(0, 39)] * 4, st.integers(-1, 2))
    boxes, labels = torch.full((3, 4), math.nan), torch.full((3,), -1)
    for place, (x, y, dx, dy, label) in enumerate(draw(st.lists(lesion, max_size=3))):
        boxes[place] = torch.tensor([x, y, min(x + dx + 1, 40), min(y + dy + 1, 40)])
        labels[place] = label
    return boxes, labels


NO_LESION = (torch.full((3, 4), math.nan), torch.full((3,), -1))
CELLS = st.sampled_from([(4, 4), (3, 5), (1, 2)])


@given(boxed(), CELLS)
def test_cells_have_the_class_of_the_lesion_in_their_centre(
    lesions: tuple[torch.Tensor, torch.Tensor], cells: tuple[int, int]
) -> None:
    boxes, labels = (each[None] for each in lesions)
    target = cell_targets(boxes, labels, cells=cells, size=(40, 40))[0]
    for row, column in np.ndindex(cells):
        top, left, step_y, step_x = row * 40 / cells[0], column * 40 / cells[1], 40 / cells[0], 40 / cells[1]
        meets = [
            (b, int(label))
            for b, label in zip(boxes[0].tolist(), labels[0], strict=True)
            if b[0] < left + step_x and b[2] > left and b[1] < top + step_y and b[3] > top
        ]
        inside = [
            label
            for b, label in meets
            if b[0] <= left + step_x / 2 < b[2] and b[1] <= top + step_y / 2 < b[3]
        ]
        found = int(target[row, column])
        assert (found == 0) == (not meets)
        if inside and max(inside) >= 0:
            assert found >= 1 + max(inside)  # or a lesion whose centre is in the cell
    for box, label in zip(boxes[0], labels[0].tolist(), strict=True):
        if label >= 0:  # each lesion has a cell
            row = int((box[1] + box[3]) / 2 // (40 / cells[0]))
            column = int((box[0] + box[2]) / 2 // (40 / cells[1]))
            assert target[row, column] >= 1 + label


def test_a_mask_replaces_the_box_but_a_lesion_keeps_the_cell_of_its_centre() -> None:
    """Cells of 10 x 10 pixels; the mask is the upper and the left edge of the box, and an own lesion."""
    boxes, labels = torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([1])
    mask = torch.zeros(1, 40, 40, dtype=torch.uint8)
    mask[0, :8] = mask[0, :, :4] = 2
    mask[0, 35:, 35:] = NO_CLASS
    target = cell_targets(boxes, labels, cells=(4, 4), size=(40, 40), mask=mask)
    assert target.tolist() == [[2, 2, 2, 2], [-1, 0, 0, 0], [-1, 0, 2, 0], [-1, 0, 0, -1]]


@given(boxed(), CELLS)
def test_masks_that_fill_the_boxes_give_the_cells_of_the_boxes(
    lesions: tuple[torch.Tensor, torch.Tensor], cells: tuple[int, int]
) -> None:
    # the first image has no lesion
    boxes, labels = (torch.stack([none, each]) for none, each in zip(NO_LESION, lesions, strict=True))
    mask = torch.zeros(2, 1, 40, 40, dtype=torch.uint8)
    for place in labels[1].argsort():  # the highest class is drawn last
        if not (box := boxes[1, place]).isnan().any():
            x_min, y_min, x_max, y_max = box.int().tolist()
            label = labels[1, place]
            mask[1, 0, y_min:y_max, x_min:x_max] = NO_CLASS if label < 0 else 1 + label
    by_boxes = cell_targets(boxes, labels, cells=cells, size=(40, 40))
    assert torch.equal(cell_targets(boxes, labels, cells=cells, size=(40, 40), mask=mask), by_boxes)


def test_lesions_and_background_count_alike_in_the_loss_of_cells() -> None:
    boxes, labels = torch.tensor([[[[0.0, 0, 10, 10]]], [[[math.nan] * 4]]]), torch.tensor([[[0]], [[-1]]])
    # the second image has no box, so its cells do not count
    scores = torch.randn(2, 1, 3, 2, 4, requires_grad=True)  # cells of 10 x 10
    logs = -scores.log_softmax(dim=2)[:, 0]
    lesion = logs[0, 1, 0, 0]
    background = logs[0, 0].flatten()[1:]
    loss = cell_loss(scores, boxes, labels, size=(20, 40))
    torch.testing.assert_close(loss, (lesion + background.mean()) / 2)
    without = torch.full_like(scores, math.nan)  # an absent view
    both = torch.cat([scores, without], dim=1)
    twice = cell_loss(both, boxes.repeat(1, 2, 1, 1), labels.repeat(1, 2, 1), size=(20, 40))
    torch.testing.assert_close(twice, loss)
    nothing = cell_loss(scores, torch.full_like(boxes, math.nan), labels, size=(20, 40))
    assert nothing == 0
    loss.backward()
    assert torch.isfinite(scores.grad).all()

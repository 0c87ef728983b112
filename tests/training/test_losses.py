import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from mammo.training.losses import CrossEntropy, Focal, FocalLoss


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

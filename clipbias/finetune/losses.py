"""Losses of the recipes as pure functions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Projector(torch.autograd.Function):
    """Projector ``V V^T`` on the leading ``k`` eigenvectors of a symmetric matrix.

    Differentiating the eigenvectors themselves divides by every gap between eigenvalues and turns
    into NaN when two agree (the failure users of Long-CLIP report). The projector depends only on
    the gaps between kept and dropped eigenvalues, so only those are divided by here.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, k: int) -> Tensor:
        try:
            values, vectors = torch.linalg.eigh(matrix)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            if bool(torch.isfinite(matrix).all()):
                raise
            # Of a matrix that is not finite some libraries say so, others answer; the loss is to be NaN with all.
            values, vectors = matrix[0] * torch.nan, matrix * torch.nan
        ctx.save_for_backward(values, vectors)
        ctx.k = k
        kept = vectors[:, -k:]
        return kept @ kept.T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        values, vectors = ctx.saved_tensors
        k = ctx.k
        kept, dropped = vectors[:, -k:], vectors[:, :-k]
        gaps = (values[-k:][:, None] - values[:-k][None]).clamp_min(torch.finfo(values.dtype).eps * values[-1].abs())
        inner = (kept.T @ (grad + grad.T) @ dropped) / gaps
        half = kept @ inner @ dropped.T
        return (half + half.T) / 2, None


def pca_reconstruct(features: Tensor, dim: int) -> Tensor:
    """Features [B, D] rebuilt from their first ``dim`` principal components, mean added back.

    Long-CLIP, section 3.2 ("primary component matching"). Gradients flow through the components.
    Returned in fp32 and computed in fp64 where the device has it: in fp32 the eigenvectors of the covariance are a
    hundred times less accurate than the features' singular vectors. Where ``dim`` reaches the rank of the batch, the
    features come back as they are.
    """
    x = features.float()
    if dim >= min(len(x) - 1, x.shape[1]):
        return x
    wide = x if x.device.type == "mps" else x.double()
    mean = wide.mean(dim=0, keepdim=True)
    centred = wide - mean
    # The same projection from either side (of samples or of columns); the smaller matrix has the cheaper eigenvectors.
    if len(x) < x.shape[1]:
        return (mean + _Projector.apply(centred @ centred.T, dim) @ centred).float()
    return (mean + centred @ _Projector.apply(centred.T @ centred, dim)).float()


def info_nce(image: Tensor, text: Tensor, scale: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Symmetric InfoNCE of matching rows: mean of the image->text and text->image cross entropies.

    Args:
        image, text: L2-normalised features [B, D]; row i of one belongs to row i of the other.
        scale: the temperature's inverse, already exponentiated.
        label_smoothing: mass spread evenly over all B classes.
    """
    logits = scale * image.float() @ text.float().T
    target = torch.arange(len(logits), device=logits.device)
    return (
        F.cross_entropy(logits, target, label_smoothing=label_smoothing)
        + F.cross_entropy(logits.T, target, label_smoothing=label_smoothing)
    ) / 2


def sigmoid_loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """SigLIP's loss of matching rows (Zhai et al. 2023, equation 1): every pair is a decision of its own.

    ``-1/B * sum_ij log sigmoid(z_ij * (scale * image_i . text_j + bias))``, z = 1 on the diagonal, else -1.

    Args:
        image, text: L2-normalised features [B, D]; row i of one belongs to row i of the other.
        scale: the temperature's inverse, already exponentiated.
        bias: added to every logit.
    """
    logits = scale * image.float() @ text.float().T + bias
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)

"""A minute of checks on any model, a user's own included: is it what the probes take it for?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from clipbias.errors import NotApplicable, UserError
from clipbias.models.encoder import Encoder

Verdict = Literal["yes", "no", "not applicable"]
_CLOSE = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 5e-3}
_TEXTS = (
    "a photo",
    "A large red circle under a blue sky. Below lies striped green ground.",
    "Two dogs sit on a bench beside a tree; behind them stands an old car.",
    "",
)


@dataclass(frozen=True)
class Finding:
    """One check: what was asked, the answer, and what was measured."""

    check: str
    verdict: Verdict
    measured: str


def check_model(encoder: Encoder) -> Iterator[Finding]:
    """The findings of every check, one by one; a check that fails with an error is a "no" that says it."""
    for name, check in _CHECKS.items():
        try:
            good, measured = check(encoder)
            yield Finding(name, "yes" if good else "no", measured)
        except NotApplicable as error:
            yield Finding(name, "not applicable", str(error))
        except Exception as error:  # the model may be anybody's code; its errors are findings
            yield Finding(name, "no", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")


def _images() -> list[object]:
    from clipbias.scenes import render, sample_scene

    return [render(sample_scene("validation", index), 192) for index in range(3)]


def _far(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _close(encoder: Encoder, distance: float) -> tuple[bool, str]:
    limit = _CLOSE.get(encoder.precision, 1e-5)
    return distance <= limit, f"largest difference {distance:.1e}, limit {limit:.0e}"


def _normalised(encoder: Encoder) -> tuple[bool, str]:
    both = torch.cat([encoder.encode_texts(_TEXTS), encoder.encode_images(_images())])  # type: ignore[arg-type]
    if both.dtype != torch.float32 or not bool(torch.isfinite(both).all()):
        return False, f"features are {both.dtype}, finite: {bool(torch.isfinite(both).all())}"
    return _close(encoder, float((both.norm(dim=1) - 1).abs().max()))


def _deterministic(encoder: Encoder) -> tuple[bool, str]:
    images = _images()
    texts = _far(encoder.encode_texts(_TEXTS), encoder.encode_texts(_TEXTS))
    pictures = _far(encoder.encode_images(images), encoder.encode_images(images))  # type: ignore[arg-type]
    return max(texts, pictures) == 0, f"texts {texts:.1e}, images {pictures:.1e} between two runs"


def _tells_apart(encoder: Encoder) -> tuple[bool, str]:
    """A model that gives all inputs one feature passes every other check."""
    texts = encoder.encode_texts(_TEXTS[:3])
    pictures = encoder.encode_images(_images())  # type: ignore[arg-type]
    least = min(_far(f[i], f[j]) for f in (texts, pictures) for i in range(3) for j in range(i))
    return least > _CLOSE["fp32"], f"different inputs differ by {least:.1e} or more"


def _text_batches(encoder: Encoder) -> tuple[bool, str]:
    whole = encoder.encode_texts(_TEXTS)
    alone = torch.cat([encoder.encode_texts([text]) for text in _TEXTS])
    return _close(encoder, _far(whole, alone))


def _image_batches(encoder: Encoder) -> tuple[bool, str]:
    images = _images()
    whole = encoder.encode_images(images)  # type: ignore[arg-type]
    alone = torch.cat([encoder.encode_images([image]) for image in images])  # type: ignore[list-item]
    return _close(encoder, _far(whole, alone))


def _image_modes(encoder: Encoder) -> tuple[bool, str]:
    from PIL import Image

    grey = Image.effect_noise((33, 20), 80)
    turned = [grey, grey.convert("RGB"), grey.convert("RGBA")]
    features = encoder.encode_images(turned)
    return _close(encoder, _far(features, features[:1].expand_as(features)))


def _truncation(encoder: Encoder) -> tuple[bool, str]:
    """Behind the context nothing may count, and the counts must say from where."""
    if not encoder.context_length:
        raise NotApplicable("the model does not say its context_length; nothing is known of what it cuts")
    words = "dog " * (encoder.context_length + 50)
    if encoder.context_length > 2048:
        raise NotApplicable(f"a context of {encoder.context_length:,} positions is not filled here")
    length = int(encoder.token_lengths([words])[0])
    if length <= encoder.context_length:
        return (
            False,
            f"{encoder.context_length + 50} words count as {length} tokens; token_lengths() is not right",
        )
    distance = _far(encoder.encode_texts([words]), encoder.encode_texts([words + "cat"]))
    good, measured = _close(encoder, distance)
    return good, f"context {encoder.context_length}, {length} tokens counted; {measured}"


def _special_words(encoder: Encoder) -> tuple[bool, str]:
    """The spelling of an end token in a caption must not end it."""
    words = ("<|endoftext|>", "<end_of_text>", "</s>", "[SEP]", "<eos>")
    pairs = [(f"a dog {word} beside a tree", f"a dog {word} under a car") for word in words]
    apart = [_far(*encoder.encode_texts(pair)) for pair in pairs]
    cut = [word for word, distance in zip(words, apart, strict=True) if distance < 1e-6]
    return not cut, f"cut at {', '.join(cut)}" if cut else f"none of {', '.join(words)} cuts a caption"


def _one_end(encoder: Encoder) -> tuple[bool, str]:
    tokens = encoder.text_tower().tokens
    texts = [*_TEXTS, "dog " * tokens.context_length, "a dog <|endoftext|> </s> a tree"]
    rows = tokens(texts)
    lengths = [min(len(ids), tokens.room) for ids in tokens.ids(texts)]
    start, special = tokens.text_start, tokens.context_length - tokens.room
    if special <= start:
        raise NotApplicable("the tokenizer puts no end token behind a text")
    ends = {int(row[start + length]) for row, length in zip(rows, lengths, strict=True)}
    inside = [int((row[start : start + n] == next(iter(ends))).sum()) for row, n in zip(rows, lengths, strict=True)]
    return len(ends) == 1 and not any(inside), f"end token {sorted(ends)}, {sum(inside)} of it inside texts"


def _ids_are_texts(encoder: Encoder) -> tuple[bool, str]:
    tower = encoder.text_tower()
    packed = tower.tokens.pack(tower.tokens.ids(_TEXTS))
    return _close(encoder, _far(tower.features(packed), encoder.encode_texts(_TEXTS)))


def _spans(encoder: Encoder) -> tuple[bool, str]:
    tokens = encoder.text_tower().tokens
    bad = 0
    for text, ids, spans in zip(_TEXTS, tokens.ids(_TEXTS), tokens.spans(_TEXTS), strict=True):
        bad += len(ids) != len(spans) or bool(((spans < 0) | (spans > len(text))).any())
    return bad == 0, f"{len(_TEXTS) - bad} of {len(_TEXTS)} texts"


def _attention(encoder: Encoder) -> tuple[bool, str]:
    tower = encoder.text_tower()
    found = tower.attention(tower.tokens(_TEXTS[1:3]))
    worst = max(float((found.weights.sum(-1) - 1).abs().max()), float((found.rollout.sum(-1) - 1).abs().max()))
    return worst <= 1e-3, f"rows sum to one within {worst:.1e}"


def _gradients(encoder: Encoder) -> tuple[bool, str]:
    tower = encoder.text_tower()
    ids = tower.tokens(_TEXTS[1:3])
    found = tower.gradients(ids, encoder.encode_images(_images()[:2]))  # type: ignore[arg-type]
    good = found.shape[0] == 2 and bool(torch.isfinite(found).all()) and bool(found.abs().sum() > 0)
    return good, f"shape {tuple(found.shape)}"


def _stated(encoder: Encoder) -> tuple[bool, str]:
    images = dict(encoder.identity()["images"])
    images.pop("paths", None)
    if not images:
        raise NotApplicable("the model's own code prepares images; nothing is known of how")
    return True, ", ".join(f"{key} {value}" for key, value in images.items())


_CHECKS: dict[str, Callable[[Encoder], tuple[bool, str]]] = {
    "features are normalised": _normalised,
    "the same twice": _deterministic,
    "different inputs, different features": _tells_apart,
    "texts do not depend on their batch": _text_batches,
    "images do not depend on their batch": _image_batches,
    "grey, RGB and RGBA of one picture are one": _image_modes,
    "what is cut is counted": _truncation,
    "special words in a caption cut nothing": _special_words,
    "one end token a text": _one_end,
    "ids made by hand are texts": _ids_are_texts,
    "tokens know their place": _spans,
    "attention sums to one": _attention,
    "gradients at the embeddings": _gradients,
    "preprocessing is stated": _stated,
}


def require_checked(findings: list[Finding]) -> None:
    """Raise `CheckFailed` where a check says no."""
    from clipbias.errors import CheckFailed

    failed = [finding.check for finding in findings if finding.verdict == "no"]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(findings)} checks say no: {'; '.join(failed)}")


def describe(encoder: Encoder) -> dict[str, str]:
    """The head of a card: what the model is and what is known of it."""
    identity = encoder.identity()
    try:
        encoder.text_tower()
        tower = "yes"
    except UserError as error:
        tower = f"no: {error}"
    tokens = identity["tokens"]
    return {
        "model": encoder.name,
        "family": encoder.family,
        "fingerprint": str(identity["fingerprint"]),
        "context": str(encoder.context_length or "not stated"),
        "embedding size": str(encoder.embed_dim),
        "options": ", ".join(f"{k}={v}" for k, v in encoder.options.items()) or "none",
        "precision, device": f"{encoder.precision}, {encoder.device.type}",
        "tokens": "; ".join(f"{k} {tokens[k]}" for k in ("kind", "cleaning", "pad", "truncation") if k in tokens),
        "text tower for probes": tower,
    }

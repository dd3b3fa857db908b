"""open_clip's text side: its tokenizers, and its towers made of transformers' models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from clipbias.errors import UserError
from clipbias.models.build import VOCABULARY
from clipbias.models.hub import hub_file, hub_folder
from clipbias.models.libraries.folder import VOCABULARIES, read_config, tokenizer_files, transformers_config
from clipbias.models.libraries.openclip_config import Text
from clipbias.models.libraries.tokens import HubTokens
from clipbias.models.tokenizer import ClipTokens, Tokens


def open_clip_tokens(text: Text, folder: Path | None) -> Tokens:
    """The tokenizer that open_clip gives a model.

    Args:
        text: the model's ``text_cfg``.
        folder: where its tokenizer lies; None: in the repository that ``hf_tokenizer_name`` names.

    Raises:
        UserError: it is not available, or its folder is refused.
    """
    settings = text.tokenizer_kwargs
    if not text.hf_tokenizer_name:
        if settings is not None and settings.clean not in (None, "lower"):
            raise UserError(
                f"tokenizer_kwargs.clean={settings.clean!r}: CLIP's tokenizer is known with lower case only"
            )
        if text.vocab_size < VOCABULARY:
            raise UserError(f"vocab_size={text.vocab_size}: CLIP's tokenizer has {VOCABULARY} tokens")
        return ClipTokens(text.context_length)
    if folder is None:
        folder = hub_folder(
            text.hf_tokenizer_name, [*VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json", "config.json"]
        )
    from open_clip.tokenizer import HFTokenizer

    given = {} if settings is None else settings.model_dump(exclude_unset=True, exclude_none=True)
    with tokenizer_files(folder) as files:
        tokenizer = HFTokenizer(
            str(files),
            context_length=text.context_length,
            tokenizer_mode=text.tokenizer_mode,
            trust_remote_code=False,
            local_files_only=True,
            **given,
        )
    return HubTokens(
        tokenizer.tokenizer,
        text.context_length,
        tokenizer.clean_fn,
        given.get("clean") or "whitespace",
        tokenizer.tokenizer_mode,
        tokenizer.strip_sep_token,
    )


def text_encoder(text: Text, embed_dim: int) -> nn.Module:
    """open_clip's tower around a text model of transformers, built from the configuration the hub has of it.

    Raises:
        UserError: the model is not of a kind that open_clip knows.
    """
    from open_clip.hf_configs import arch_dict
    from open_clip.hf_model import HFTextEncoder
    from transformers import AutoModel

    assert text.hf_model_name is not None
    content = read_config(hub_file(text.hf_model_name, "config.json"))
    config = transformers_config(content, text.hf_model_name, tuple(arch_dict))

    class Tower(HFTextEncoder):  # type: ignore[misc]
        """`HFTextEncoder` around a model that is given."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.output_tokens, self.output_dim, self.config = text.output_tokens, embed_dim, config
            own: dict[str, Any] = {} if config.is_encoder_decoder else {"add_pooling_layer": pooler == "cls_pooler"}
            built = AutoModel.from_config(config, trust_remote_code=False, **own)  # type: ignore[no-untyped-call]
            self.transformer = built.encoder if config.is_encoder_decoder else built
            self.vocab_size, self.context_length = config.vocab_size, text.context_length
            self.pooler, self.proj = _pooler(pooler), _projection(text.hf_proj_type, width, embed_dim)

    known = arch_dict[config.model_type]
    pooler = text.hf_pooler_type or known["pooler"]
    width = getattr(config, known["config_names"]["width"])
    return Tower()


def _pooler(name: str) -> nn.Module:
    from open_clip.hf_model import _POOLERS

    return _POOLERS[name]()


def _projection(kind: str | None, width: int, out: int) -> nn.Module:
    """As open_clip's `HFTextEncoder` makes it."""
    if kind is None and width == out:
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, out, bias=False)
    hidden = (width + out) // 2
    return nn.Sequential(nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, out, bias=False))


@dataclass
class WrappedText:
    """`HubText` of open_clip's tower around a text model of transformers.

    Attributes:
        name, device, tokens: of the encoder.
        text: open_clip's ``HFTextEncoder``.
        encode: ids [N, L] to features [N, D], as the encoder does it.
    """

    name: str
    device: torch.device
    tokens: Tokens
    text: Any
    encode: Callable[[Tensor], Tensor]
    trims: bool = False

    def encode_token_ids(self, ids: Tensor) -> Tensor:
        """See `HubText`."""
        return self.encode(ids)

    def last_needed(self, ids: Tensor) -> Tensor:
        """See `HubText`; such rows are not trimmed."""
        return torch.full((len(ids),), ids.shape[1] - 1)

    def text_features(self, ids: Tensor) -> Tensor:
        """See `HubText`."""
        return self.text_outputs(ids).pooler_output

    def text_outputs(self, ids: Tensor, **more: Any) -> Any:
        """See `HubText`; the mask, pooler and projection are open_clip's."""
        mask = (ids != self.text.config.pad_token_id).long()
        found = self.text.transformer(input_ids=ids, attention_mask=mask, **more)
        features = self.text.proj(self.text.pooler(found, mask))
        return SimpleNamespace(
            last_hidden_state=found.last_hidden_state, pooler_output=features, attentions=found.get("attentions")
        )

    def attending(self) -> Callable[[], None]:
        """See `HubText`."""
        before = self.text.transformer.config._attn_implementation
        self.text.transformer.set_attn_implementation("eager")
        return partial(self.text.transformer.set_attn_implementation, before)

    def embeddings(self) -> nn.Module | None:
        """See `HubText`."""
        return self.text.transformer.get_input_embeddings()

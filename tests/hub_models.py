"""Small models of transformers with random weights, written as its own model folders, for tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from hub_clip import clip_tokenizer

WORDS = ["a dog sits on a bench.", "Two birds over a lake, and a CAT!", "the old red car - by the road", "12.5 m, it's"]
_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = _SIZES | {"image_size": 24, "patch_size": 8}
KINDS = ("clip", "siglip", "siglip2", "metaclip_2", "altclip", "chinese_clip")


def _unigram(special: tuple[str, ...], ending: str, start: str = "") -> Any:
    """A sentencepiece-like tokenizer over `WORDS`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=list(special), unk_token="<unk>", show_progress=False
    )
    inner.train_from_iterator([w for text in WORDS for w in (text, text.lower())], trainer)
    around = [(token, special.index(token)) for token in (start, ending) if token]
    inner.post_processor = processors.TemplateProcessing(single=f"{start} $A {ending}".strip(), special_tokens=around)
    return inner


def hub_tokenizer(kind: str) -> tuple[Any, int]:
    """A tokenizer as models of this kind have it, and the size of its vocabulary."""
    from transformers import PreTrainedTokenizerFast

    if kind == "clip":
        made = copy.deepcopy(clip_tokenizer())
        # A shared tokenizer keeps the limits of whoever called it last, and would write them into the folder.
        made.backend_tokenizer.no_truncation()
        made.backend_tokenizer.no_padding()
        return made, 49_408
    if kind in ("siglip", "siglip2"):
        inner = _unigram(("<pad>", "</s>", "<unk>"), "</s>")
        pad = "</s>" if kind == "siglip" else "<pad>"
        made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=pad, eos_token="</s>", unk_token="<unk>")
        return made, 200
    inner = _unigram(("<s>", "<pad>", "</s>", "<unk>"), "</s>", "<s>")
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>",
    )  # fmt: skip
    return made, 200


def write_hub_folder(kind: str, folder: Path, context: int = 40, patch: int = 8) -> Any:
    """Write a model folder of one of `KINDS`, as transformers writes it, and return the model."""
    import transformers as t

    tokenizer, vocabulary = hub_tokenizer(kind)
    text = _SIZES | {"vocab_size": vocabulary, "max_position_embeddings": context}
    square = {"size": {"height": 24, "width": 24}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    images: Any = t.CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    if kind == "clip":
        config: Any = t.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)
    elif kind == "siglip":
        config = t.SiglipConfig(text_config=text, vision_config=_VISION)
        images = t.SiglipImageProcessor(**square)
    elif kind == "siglip2":
        vision = _SIZES | {"patch_size": patch, "num_patches": 16}
        config = t.Siglip2Config(text_config=text, vision_config=vision)
        images = t.Siglip2ImageProcessor(patch_size=patch, max_num_patches=16)
    elif kind == "metaclip_2":
        text |= {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
        config = t.MetaClip2Config(text_config=text, vision_config=_VISION, projection_dim=16)
    elif kind == "altclip":
        text |= {"max_position_embeddings": context + 2, "project_dim": 32, "pad_token_id": 1}
        config = t.AltCLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)
    else:
        text |= {"pad_token_id": 1}
        config = t.ChineseCLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)
        images = t.ChineseCLIPImageProcessor(size={"height": 24, "width": 24}, do_center_crop=False)
    torch.manual_seed(0)
    model = t.MODEL_MAPPING[type(config)](config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tokenizer.model_max_length = context
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    return model


def write_fgclip2(folder: Path) -> tuple[Any, Any]:
    """Write a model folder as FG-CLIP 2's authors do: SigLIP 2's names and further tables and heads.

    Returns:
        The SigLIP 2 model inside, and the further tensors by name.
    """
    import json

    from safetensors.torch import load_file, save_file

    model = write_hub_folder("siglip2", folder, context=64, patch=16)
    draw = torch.Generator().manual_seed(1)
    width, table = 32, "text_model.embeddings.position_embedding"
    shapes = {f"{table}_{part}.weight": (196, width) for part in ("ori", "res")}
    shapes |= {f"{head}.weight": (width, width) for head in ("longtext_head", "boxtext_head")}
    shapes |= {f"{head}.bias": (width,) for head in ("longtext_head", "boxtext_head")}
    shapes |= {"dense_feature_head.probe": (1, 1, width), "dense_feature_head.attention.in_proj_bias": (3 * width,)}
    more = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    save_file(load_file(folder / "model.safetensors") | more, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"keep_len": 20, "longtext_len": 196, "model_type": "fgclip2_text_model"}
    config["vision_config"] |= {"model_type": "fgclip2_vision_model"}
    code = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    config |= {"model_type": "fgclip2", "architectures": ["Fgclip2Model"], "auto_map": code}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    return model, more


def write_sentence_folder(kind: str, folder: Path, inside: str = "") -> None:
    """Write a folder as sentence-transformers does around a two-tower model that lies in its subfolder ``inside``."""
    import json

    write_hub_folder(kind, folder / inside)
    module = "sentence_transformers.models.CLIPModel" if inside else f"{_ST}.Transformer"
    more = [{"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}]
    modules = [{"idx": 0, "name": "0", "path": inside, "type": module}, *(more if inside else [])]
    methods = {n: {"method": f"get_{n}_features", "method_output_name": "pooler_output"} for n in ("text", "image")}
    settings = {"modality_config": methods, "module_output_name": "sentence_embedding"}
    prompts = {"prompts": {"query": "an image of ", "passage": ""}, "default_prompt_name": None}
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    if inside:
        (folder / "1_Normalize").mkdir()
    else:
        (folder / "sentence_bert_config.json").write_text(json.dumps(settings))


_ST = "sentence_transformers.base.modules.transformer"
_VL_TOKENS = ("<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
              "<|image_pad|>", "<|video_pad|>")  # fmt: skip
_VL_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {% for c in m.content %}{% if c.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
)


def write_vl_embedder(folder: Path, context: int = 128) -> tuple[Any, Any]:
    """Write a folder as sentence-transformers does around a language model that sees (Qwen2-VL), last token pooled.

    Returns:
        transformers' model and processor that are in it.
    """
    import json

    import transformers as t

    inner = _unigram(_VL_TOKENS, "")
    inner.post_processor = None
    pad, unknown, _, end, *vision = _VL_TOKENS
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pad, eos_token=end, unk_token=unknown, model_max_length=context,
        additional_special_tokens=list(_VL_TOKENS[2:]),
    )  # fmt: skip
    number = {token: place for place, token in enumerate(_VL_TOKENS)}
    rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    text = _SIZES | {
        "vocab_size": 200, "num_key_value_heads": 2, "max_position_embeddings": 512, "rope_scaling": rope,
        "bos_token_id": 0, "eos_token_id": number[end],
    }  # fmt: skip
    grid = {"patch_size": 4, "temporal_patch_size": 2}
    sees = grid | {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    ids = {name: number[token] for name, token in zip(names, vision, strict=True)}
    torch.manual_seed(0)
    model = t.Qwen2VLModel(t.Qwen2VLConfig(text_config=text, vision_config=sees | {"spatial_merge_size": 2}, **ids))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    grid |= {"merge_size": 2}
    images: Any = t.Qwen2VLImageProcessor(min_pixels=64, max_pixels=1024, **grid)
    videos: Any = t.Qwen2VLVideoProcessor(**grid)
    processor = t.Qwen2VLProcessor(images, tokenizer, chat_template=_VL_TEMPLATE, video_processor=videos)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    modules = [_ST, "sentence_transformers.models", "sentence_transformers.models"]
    kinds = ("Transformer", "Pooling", "Normalize")
    entries = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"{module}.{kind}"}
        for n, (module, kind) in enumerate(zip(modules, kinds, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    for entry in entries[1:]:
        (folder / str(entry["path"])).mkdir()
    pooling = {"embedding_dimension": 32, "pooling_mode": "lasttoken"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    prompts = {"prompts": {"query": "find a red bird"}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = {"text": forward, "image": forward, "message": forward | {"format": "structured"}}
    settings = {"modality_config": modalities, "module_output_name": "token_embeddings"}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    return model, processor

"""A model folder as plain `transformers` opens it, with no code of ours.

The lecture's gpt is a GPT-2 whose attention has no biases to speak of; the modern gpt is a NanoChat. Both are that
library's own classes, so what they cannot say, a prior or a narrow window, cannot be exported.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Fast
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, NanoChatConfig, NanoChatForCausalLM, PreTrainedTokenizerFast

from stages.core.errors import ModelError
from stages.models import gpt, lecture_gpt
from stages.models.base import LanguageModel
from stages.models.gpt import LOGIT_CAP, ROTARY_BASE
from stages.models.model_folder import Saved
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.bpe import BpeTokenizer, make_fast, spelling
from stages.tokenizers.char import UNKNOWN, CharTokenizer

NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def export(saved: Saved, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's files to `folder`.

    Raises:
        ModelError: where the model has something that `transformers` has not, naming it.
    """
    model = saved.model
    if isinstance(model, lecture_gpt.Model):
        exported: Any = as_gpt2(model)
    elif isinstance(model, gpt.Model):
        exported = as_nanochat(model)
    else:
        raise ModelError(
            f"a model of kind '{model.params.kind}' cannot be exported: it is no transformer of that library"
        )
    exported.save_pretrained(folder)
    as_fast_tokenizer(saved.tokenizer, model.params.block_size).save_pretrained(folder)


def as_gpt2(model: LanguageModel) -> GPT2LMHeadModel:
    """Give the lecture's gpt as GPT-2: the same form, with queries, keys and values in one matrix."""
    params, weights = model.params, model.state_dict()
    config = GPT2Config(
        vocab_size=model.vocabulary_size,
        n_positions=params.block_size,
        n_embd=params.n_embd,
        n_layer=params.n_layer,
        n_head=params.n_head,
        activation_function="relu",
        tie_word_embeddings=False,
        **NO_TOKENS,
    )
    renamed = {
        "transformer.wte.weight": weights["embed.token.weight"],
        "transformer.wpe.weight": weights["embed.position.weight"],
        "lm_head.weight": weights["head.weight"],
        "transformer.ln_f.weight": weights["norm.weight"],
        "transformer.ln_f.bias": weights["norm.bias"],
    }
    for layer in range(params.n_layer):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        qkv = torch.cat([weights[f"{ours}.heads.{name}.weight"] for name in ("query", "key", "value")])
        renamed[f"{theirs}.attn.c_attn.weight"] = qkv.T
        renamed[f"{theirs}.attn.c_attn.bias"] = torch.zeros(len(qkv))
        names = {"project": "attn.c_proj", "think.up": "mlp.c_fc", "think.down": "mlp.c_proj"}
        for name, other in names.items():  # Conv1D keeps its matrices turned
            renamed[f"{theirs}.{other}.weight"] = weights[f"{ours}.{name}.weight"].T
            renamed[f"{theirs}.{other}.bias"] = weights[f"{ours}.{name}.bias"]
        for name, other in {"norm_1": "ln_1", "norm_2": "ln_2"}.items():
            renamed[f"{theirs}.{other}.weight"] = weights[f"{ours}.{name}.weight"]
            renamed[f"{theirs}.{other}.bias"] = weights[f"{ours}.{name}.bias"]
    return _filled(GPT2LMHeadModel(config), renamed)


def as_nanochat(model: LanguageModel) -> NanoChatForCausalLM:
    """Give the modern gpt without prior as NanoChat, which turns queries and keys the other way round.

    Turning by the opposite angle is the same as exchanging the halves of each head, so these are exchanged.

    Raises:
        ModelError: where there is a prior, or attention does not reach over the whole block.
    """
    params, weights = model.params, model.state_dict()
    if params.prior != "none":
        raise ModelError(
            f"the model stands on counts (model.prior is '{params.prior}'), which transformers has no place for: "
            "train with model.prior: none to export"
        )
    if 0 < params.window < params.block_size:
        raise ModelError(
            f"attention looks back over {params.window} of {params.block_size} positions, and NanoChat over all: "
            "train with model.window: 0 to export"
        )
    config = NanoChatConfig(
        vocab_size=model.vocabulary_size,
        hidden_size=params.n_embd,
        intermediate_size=4 * params.n_embd,
        num_hidden_layers=params.n_layer,
        num_attention_heads=params.n_head,
        max_position_embeddings=params.block_size,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
        final_logit_softcapping=LOGIT_CAP,
        **NO_TOKENS,
    )
    renamed = {"model.embed_tokens.weight": weights["embedding.weight"], "lm_head.weight": weights["head"]}
    for layer in range(params.n_layer):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        query, key, value = weights[f"{ours}.qkv"].unbind(0)
        renamed |= {
            f"{theirs}.self_attn.q_proj.weight": exchange_halves(query, params.n_head),
            f"{theirs}.self_attn.k_proj.weight": exchange_halves(key, params.n_head),
            f"{theirs}.self_attn.v_proj.weight": value,
            f"{theirs}.self_attn.o_proj.weight": weights[f"{ours}.project"],
            f"{theirs}.mlp.fc1.weight": weights[f"{ours}.up"],
            f"{theirs}.mlp.fc2.weight": weights[f"{ours}.down"],
        }
    return _filled(NanoChatForCausalLM(config), renamed)


def exchange_halves(weight: Tensor, n_head: int) -> Tensor:
    """Exchange the two halves of each head's rows: (C, C) -> (C, C)."""
    heads = weight.view(n_head, 2, -1, weight.shape[1])
    return heads.flip(1).reshape(weight.shape)


def as_fast_tokenizer(tokenizer: Tokenizer, block_size: int) -> PreTrainedTokenizerFast:
    """Give the tokenizer as `tokenizers` has it.

    Characters: every one a word, put together again with nothing. Bytes: merges, of which there are none.
    """
    if isinstance(tokenizer, BpeTokenizer):
        fast = tokenizer.fast
    elif isinstance(tokenizer, CharTokenizer):
        vocabulary = {character: index for index, character in enumerate(tokenizer.characters)}
        fast = Fast(models.WordLevel(vocabulary, UNKNOWN) if tokenizer.unknown else models.WordLevel(vocabulary))
        fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        fast.decoder = decoders.Fuse()
    else:
        fast = make_fast({letter: byte for byte, letter in enumerate(spelling())}, [])
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, clean_up_tokenization_spaces=False, model_max_length=block_size
    )


def _filled(model: Any, weights: dict[str, Tensor]) -> Any:  # noqa: ANN401 - a class of transformers
    model.load_state_dict({name: weight.float().contiguous() for name, weight in weights.items()})
    return model.eval()

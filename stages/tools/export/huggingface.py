"""Export a trained model to `transformers`: to its own classes, if they can hold it, otherwise with Folio's code.

The lecture's GPT is a GPT-2 whose attention biases are zero; `gpt` without n-grams and without a sliding window is a
NanoChat model.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HFTokenizer
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, NanoChatConfig, NanoChatForCausalLM, PreTrainedTokenizerFast

from stages.models.base import LanguageModel
from stages.models.gpt import GPT, LOGIT_CAP
from stages.models.gpt_block import ROTARY_BASE
from stages.models.lecture_gpt import LectureGPT
from stages.models.model_folder import TrainedModel
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.bpe import BpeTokenizer, byte_alphabet, make_hf_tokenizer
from stages.tokenizers.char import UNKNOWN_CHARACTER, CharTokenizer
from stages.tools.export.remote_code import export_with_code

NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def export_model(trained: TrainedModel, folder: Path) -> None:
    """Write config.json, model.safetensors, the tokenizer files and, if the model needs it, its code to `folder`."""
    model = trained.model
    params = model.params
    if isinstance(model, LectureGPT):
        to_gpt2(model).save_pretrained(folder)
    elif isinstance(model, GPT) and params.prior == "none" and not 0 < params.sliding_window < params.block_size:
        to_nanochat(model).save_pretrained(folder)
    else:
        export_with_code(model, folder)
    to_fast_tokenizer(trained.tokenizer, model.params.block_size).save_pretrained(folder)


def to_gpt2(model: LanguageModel) -> GPT2LMHeadModel:
    """Return the lecture's GPT as a GPT-2, which has queries, keys and values in one matrix."""
    params, weights = model.params, model.state_dict()
    config = GPT2Config(
        vocab_size=model.vocab_size,
        n_positions=params.block_size,
        n_embd=params.n_embd,
        n_layer=params.n_layer,
        n_head=params.n_head,
        activation_function="relu",
        tie_word_embeddings=False,
        **NO_TOKENS,
    )
    weights_by_name = {
        "transformer.wte.weight": weights["embed.token.weight"],
        "transformer.wpe.weight": weights["embed.position.weight"],
        "lm_head.weight": weights["head.weight"],
        "transformer.ln_f.weight": weights["norm.weight"],
        "transformer.ln_f.bias": weights["norm.bias"],
    }
    for layer in range(params.n_layer):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        qkv = torch.cat([weights[f"{ours}.attention.{name}.weight"] for name in ("query", "key", "value")])
        weights_by_name[f"{theirs}.attn.c_attn.weight"] = qkv.T
        weights_by_name[f"{theirs}.attn.c_attn.bias"] = torch.zeros(len(qkv))
        names = {"attention_out": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
        for name, other in names.items():  # Conv1D stores transposed matrices
            weights_by_name[f"{theirs}.{other}.weight"] = weights[f"{ours}.{name}.weight"].T
            weights_by_name[f"{theirs}.{other}.bias"] = weights[f"{ours}.{name}.bias"]
        for name, other in {"norm_1": "ln_1", "norm_2": "ln_2"}.items():
            weights_by_name[f"{theirs}.{other}.weight"] = weights[f"{ours}.{name}.weight"]
            weights_by_name[f"{theirs}.{other}.bias"] = weights[f"{ours}.{name}.bias"]
    return _load_weights(GPT2LMHeadModel(config), weights_by_name)


def to_nanochat(model: LanguageModel) -> NanoChatForCausalLM:
    """Return `gpt` without prior as a NanoChat model, which rotates queries and keys in the opposite direction.

    Rotating by the opposite angle is the same as swapping the halves of each head, so the halves are swapped.
    """
    params, weights = model.params, model.state_dict()
    config = NanoChatConfig(
        vocab_size=model.vocab_size,
        hidden_size=params.n_embd,
        intermediate_size=4 * params.n_embd,
        num_hidden_layers=params.n_layer,
        num_attention_heads=params.n_head,
        max_position_embeddings=params.block_size,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
        final_logit_softcapping=LOGIT_CAP,
        **NO_TOKENS,
    )
    weights_by_name = {"model.embed_tokens.weight": weights["embedding.weight"], "lm_head.weight": weights["head"]}
    for layer in range(params.n_layer):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        query, key, value = weights[f"{ours}.qkv"].unbind(0)
        weights_by_name |= {
            f"{theirs}.self_attn.q_proj.weight": swap_halves(query, params.n_head),
            f"{theirs}.self_attn.k_proj.weight": swap_halves(key, params.n_head),
            f"{theirs}.self_attn.v_proj.weight": value,
            f"{theirs}.self_attn.o_proj.weight": weights[f"{ours}.attention_out"],
            f"{theirs}.mlp.fc1.weight": weights[f"{ours}.mlp_up"],
            f"{theirs}.mlp.fc2.weight": weights[f"{ours}.mlp_down"],
        }
    return _load_weights(NanoChatForCausalLM(config), weights_by_name)


def swap_halves(weight: Tensor, n_head: int) -> Tensor:
    """Return a weight, (C, C), with the two halves of the rows of each head swapped."""
    heads = weight.view(n_head, 2, -1, weight.shape[1])
    return heads.flip(1).reshape(weight.shape)


def to_fast_tokenizer(tokenizer: Tokenizer, block_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of `transformers`.

    In a character tokenizer every character is a word; a byte tokenizer is a BPE tokenizer without merges.
    """
    if isinstance(tokenizer, BpeTokenizer):
        hf_tokenizer = tokenizer.hf_tokenizer
    elif isinstance(tokenizer, CharTokenizer):
        vocab = {character: index for index, character in enumerate(tokenizer.characters)}
        words = models.WordLevel(vocab, UNKNOWN_CHARACTER) if tokenizer.has_unknown else models.WordLevel(vocab)
        hf_tokenizer = HFTokenizer(words)
        hf_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        hf_tokenizer.decoder = decoders.Fuse()
    else:
        hf_tokenizer = make_hf_tokenizer({character: byte for byte, character in enumerate(byte_alphabet())}, [])
    return PreTrainedTokenizerFast(
        tokenizer_object=hf_tokenizer, clean_up_tokenization_spaces=False, model_max_length=block_size
    )


def _load_weights(model: Any, weights: dict[str, Tensor]) -> Any:  # noqa: ANN401 - a class of transformers
    model.load_state_dict({name: weight.float().contiguous() for name, weight in weights.items()})
    return model.eval()

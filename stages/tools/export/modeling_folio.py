"""A language model trained with Folio, for `transformers` 5.24 or newer, with `trust_remote_code=True`.

The other Python files in this folder are Folio's own code of the model.
"""

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Cache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import cached_file

from stages.generation.decoding import make_decoder
from stages.models.base import Decoder
from stages.models.gpt import GPT as Network  # `folio export` names the class of the exported model here
from stages.models.params import ModelParams

WEIGHTS = "model.safetensors"


class FolioConfig(PretrainedConfig):
    """The section `model` of Folio's parameters, and the number of tokens.

    Args:
        model: the parameters, such as block_size and n_embd.
        vocab_size: V.
    """

    model_type = "folio"

    def __init__(self, model: dict[str, Any] | None = None, vocab_size: int = 256, **kwargs: Any) -> None:
        self.model = model or {}
        self.vocab_size = vocab_size
        super().__init__(**kwargs)


class FolioCache(Cache):
    """Folio's decoder, which keeps what it needs of the text so far, for as long a text as there may be."""

    is_compileable = False

    def __init__(self, network: Network) -> None:
        super().__init__(layers=[])
        self.network = network
        self.decoder: Decoder | None = None
        self.length = 0  # tokens so far

    def step(self, ids: Tensor) -> Tensor:
        """Append ids, (B, T), to the texts and return the logits of the next token, (B, V)."""
        if self.decoder is None:
            self.decoder = make_decoder(self.network, len(ids))
        self.length += ids.shape[1]
        return self.decoder.step(ids)

    def get_seq_length(self, *_: Any) -> int:
        """Return the number of tokens that were processed."""
        return self.length

    def reorder_cache(self, beams: Tensor) -> None:
        """Refuse beam search, which needs copies of the text so far."""
        raise NotImplementedError("beam search needs use_cache=False")


class FolioForCausalLM(PreTrainedModel, GenerationMixin):
    """Wraps a model of Folio, which takes texts of one length, without padding."""

    config_class = FolioConfig
    main_input_name = "input_ids"

    def __init__(self, config: FolioConfig) -> None:
        super().__init__(config)
        self.network = Network(ModelParams.model_validate(config.model), config.vocab_size)
        self.post_init()

    @classmethod
    def from_pretrained(cls, path: Any, *_: Any, config: FolioConfig | None = None, **kwargs: Any) -> Any:
        """Return the model in a folder or repository, in float32 and in evaluation mode.

        The tensors of n-gram counts have the size of the text, so the model learns their shapes from the file.

        Raises:
            ValueError: if another precision is asked for.
        """
        wanted = kwargs.get("dtype", kwargs.get("torch_dtype"))
        if wanted not in (None, "auto", "float32", torch.float32):
            raise ValueError(f"this model is computed in float32, not in {wanted}")
        names = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
        place = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        model = cls(config or FolioConfig.from_pretrained(path, **place))
        weights = load_file(cached_file(path, WEIGHTS, **place))
        model.network.load_state_dict({name.removeprefix("network."): weight for name, weight in weights.items()})
        device = kwargs.get("device_map")
        model.to(device if isinstance(device, str | torch.device) and device != "auto" else "cpu").eval()
        loading: dict[str, Any] = {
            "missing_keys": set(),
            "unexpected_keys": set(),
            "mismatched_keys": set(),
            "error_msgs": [],
        }
        return (model, loading) if kwargs.get("output_loading_info") else model

    @property
    def device(self) -> torch.device:
        """Return the device of the weights, or of the n-gram counts of a model without weights."""
        tensors: dict[str, Tensor] = self.network.state_dict()
        return next(iter(tensors.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision, float32 also for a model without weights."""
        return next((weight.dtype for weight in self.network.parameters()), torch.float32)

    def _init_weights(self, module: Any) -> None:
        """Leave the weights as the network made them."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: FolioCache | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Return the logits of the next token.

        Args:
            input_ids: tokens, (B, T).
            attention_mask: all ones, (B, at least T), or None.
            cache: what is known of the tokens before; then the logits are those after the last token only.
            labels: the tokens again, (B, T), for the mean loss of all but the first one.
            logits_to_keep: how many positions to return, from the end; 0: all.

        Raises:
            ValueError: if a text is empty, padded, or longer than the block size without a cache.
        """
        if not input_ids.shape[1]:
            raise ValueError("the text is empty; begin with at least one token")
        if attention_mask is not None and not attention_mask.all():
            raise ValueError("this model takes texts of one length: it knows no padding")
        block_size = self.network.params.block_size
        if cache is not None:
            logits = cache.step(input_ids)[:, None]
        elif input_ids.shape[1] > block_size:
            raise ValueError(f"{input_ids.shape[1]} tokens are more than the block size of {block_size}")
        else:
            logits = self.network(input_ids)
        loss = None
        if labels is not None:
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits[:, -logits_to_keep:], cache=cache)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: FolioCache | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the tokens that the cache lacks; without a cache, the last block."""
        start = max(0, input_ids.shape[1] - self.network.params.block_size) if cache is None else cache.length
        return {"input_ids": input_ids[:, start:], "attention_mask": attention_mask, "cache": cache}

    def _prepare_cache_for_generation(self, generation_config: Any, model_kwargs: dict[str, Any], *_: Any) -> bool:
        """Let `generate` begin with Folio's decoder, unless it is told to use no cache."""
        if generation_config.use_cache and model_kwargs.get("cache") is None:
            model_kwargs["cache"] = FolioCache(self.network)
        return False
